//! The table of results.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::measure::Samples;

/// Rows of the report.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<[String; 10]>,
}

impl Report {
    /// Adds a comparison, and prints it right away for the impatient.
    pub(super) fn compare(&mut self, name: &str, weir: &Samples, native: &Samples, floor: Option<&Samples>) {
        let ratio =
            |one: Duration, other: Duration| format!("{:.2}", one.as_secs_f64() / other.as_secs_f64());
        let row = [
            name.to_owned(),
            weir.len().to_string(),
            milliseconds(weir.wall()),
            milliseconds(native.wall()),
            ratio(weir.wall(), native.wall()),
            ratio(weir.cpu(), native.cpu()),
            format!("{}/{}", mebibytes(weir.peak()), mebibytes(native.peak())),
            format!("±{:.0}% ±{:.0}%", weir.noise() * 100.0, native.noise() * 100.0),
            floor.map(|floor| milliseconds(floor.wall())).unwrap_or_default(),
            floor.map(|floor| ratio(weir.wall(), floor.wall())).unwrap_or_default(),
        ];
        eprintln!("{name}: wall {}, cpu {}", row[4], row[5]);
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "case",
            "n",
            "weir ms",
            "native ms",
            "wall ratio",
            "cpu ratio",
            "peak MiB",
            "noise",
            "floor ms",
            "to floor",
        ]);
        for row in &self.rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.fmt(f)
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn mebibytes(kibibytes: i64) -> String {
    format!("{:.1}", kibibytes as f64 / 1024.0)
}
