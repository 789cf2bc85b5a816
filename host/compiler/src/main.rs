//! The program: reads a component from standard input, as root in weir's
//! hands, but with none of its rights.
//!
//! | called with | it writes |
//! |---|---|
//! | `describe` | a line of JSON, then the component |
//! | `compile TARGET` | the code |
//! | `key TARGET` | what identifies the engine |
//!
//! A failure is a sentence on standard error, and exit code 1.

#![forbid(unsafe_code)]

mod confinement;

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    confinement::enter().context("give up rights")?;
    let mut out = io::stdout().lock();
    match arguments.as_slice() {
        ["describe"] => {
            let bytes = input()?;
            let described = weir_compiler::describe(&bytes)?;
            writeln!(out, "{}", described.to_json()?)?;
            out.write_all(&described.component)?;
        }
        ["compile", target] => {
            let engine = weir_compiler::engine(target)?;
            out.write_all(&weir_compiler::compile(&engine, &input()?)?)?;
        }
        ["key", target] => {
            write!(out, "{}", weir_compiler::key(&weir_compiler::engine(target)?)?)?;
        }
        _ => bail!("weir-compiler is executed by weir; install a component with \"weir plugin add\""),
    }
    out.flush()?;
    Ok(())
}

fn input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).context("read the component")?;
    Ok(bytes)
}
