//! Running a process and reading what it cost.

use std::io::Read;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{Call, Lab};

/// What one process cost, with the processes that it waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
    /// Peak resident memory in KiB, of the largest process.
    pub(super) peak: i64,
}

/// Many of them.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Cost>);

impl Samples {
    pub(super) fn add(&mut self, cost: Cost) {
        self.0.push(cost);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn sorted<T: Ord>(&self, of: impl Fn(&Cost) -> T) -> Vec<T> {
        let mut values: Vec<T> = self.0.iter().map(of).collect();
        values.sort();
        values
    }

    fn median_of<T: Ord + Default + Copy>(&self, of: impl Fn(&Cost) -> T) -> T {
        let values = self.sorted(of);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    pub(super) fn wall(&self) -> Duration {
        self.median_of(|cost| cost.wall)
    }

    pub(super) fn cpu(&self) -> Duration {
        self.median_of(|cost| cost.cpu)
    }

    pub(super) fn peak(&self) -> i64 {
        self.median_of(|cost| cost.peak)
    }

    /// Half the distance between the quartiles of the wall time, as a part of
    /// the median.
    pub(super) fn noise(&self) -> f64 {
        let values = self.sorted(|cost| cost.wall);
        let at = |quarter: usize| {
            values.get(values.len() * quarter / 4).copied().unwrap_or_default().as_secs_f64()
        };
        (at(3) - at(1)) / 2.0 / at(2)
    }
}

/// Makes a call on the lab's node.
pub(super) fn call(lab: &Lab, call: &Call) -> Result<Cost> {
    lab.node.enter(|| {
        let started = Instant::now();
        let child = call.program().start()?;
        finish(child, call.program().input_bytes(), started)
    })
}

/// Feeds a process, waits for it, and reads its cost.
pub(super) fn finish(mut child: Child, input: &[u8], started: Instant) -> Result<Cost> {
    use std::io::Write;
    if let Some(mut pipe) = child.stdin.take() {
        // Configurations fit into a pipe; VERSION may not read its own.
        let _ = pipe.write_all(input);
    }
    let mut output = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut output).context("read the output")?;
    }
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<nix::libc::rusage>::zeroed();
    let pid = i32::try_from(child.id()).context("a process id")?;
    // SAFETY: `status` and `usage` are valid for writes, and the process is a
    // child that nobody else waits for.
    let waited = unsafe { nix::libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    let wall = started.elapsed();
    ensure!(waited == pid, "wait for process {pid}");
    // SAFETY: all zeros are a valid value, and wait4 wrote over it.
    let usage = unsafe { usage.assume_init() };
    ensure!(status == 0, "the process failed with {status:#x}: {output}");
    let time = |time: nix::libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
    };
    Ok(Cost { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), peak: usage.ru_maxrss })
}
