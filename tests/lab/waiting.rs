//! What a program that does not end is waiting for.

use std::fs;

/// Lists a process and those that it started, each with its state and the
/// function of the kernel that it waits in (`proc_pid_wchan(5)`).
pub(super) fn describe(process: u32) -> String {
    let mut lines = Vec::new();
    add(&process.to_string(), 1, &mut lines);
    lines.join("\n")
}

fn add(process: &str, depth: usize, lines: &mut Vec<String>) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let status = read("status");
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("gone").trim();
    let command = read("cmdline").replace('\0', " ");
    let indent = "  ".repeat(depth);
    lines.push(format!("{indent}{process} {state} {}: {}", read("wchan"), command.trim_end()));
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return };
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            add(child, depth + 1, lines);
        }
    }
}
