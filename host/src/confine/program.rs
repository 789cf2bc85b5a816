//! A filter of system calls: a program for the kernel's packet filter
//! (seccomp(2)), made at build time.
//!
//! It looks for the number by bisection. When a filter is installed the kernel
//! runs it for every system call there is, and compiles it: with one comparison
//! after the other, which is what the usual compilers make of a list, that
//! takes three times as long, more than all else that confines a call.

use seccompiler::sock_filter;

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// EPERM.
    Refused,
    /// ENOSYS.
    Missing,
    /// Allowed if this bit is set in the first argument, else refused.
    AllowedWithFlag {
        flag: u32,
    },
    /// Allowed if the first argument is this, else refused.
    AllowedWithValue {
        value: u32,
    },
}

/// More instructions than jumps of one byte reach across.
const LIMIT: usize = 250;

/// A filter.
pub(super) struct Program {
    instructions: [sock_filter; LIMIT],
    length: usize,
}

/// From this number on, up to the next one, there is one verdict.
#[derive(Clone, Copy)]
struct Interval {
    start: i64,
    verdict: Verdict,
}

struct Intervals {
    all: [Interval; LIMIT],
    count: usize,
}

/// Instructions (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`, of little-endian machines.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Answers (linux/seccomp.h).
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | nix::libc::EPERM as u32;
const MISSING: u32 = 0x0005_0000 | nix::libc::ENOSYS as u32;
const KILL: u32 = 0x8000_0000;

/// The instructions before the search.
const HEAD: usize = 3;
/// The answers at the end.
const TAIL: usize = 4;

impl Program {
    /// A filter for an architecture. System calls that are newer than `newest`
    /// are missing.
    pub(super) const fn new(
        architecture: u32,
        newest: i64,
        refused: &[&[i64]],
        special: &[(i64, Verdict)],
    ) -> Self {
        let intervals = Intervals::new(newest, refused, special);
        let mut specials = 0;
        let mut index = 0;
        while index < intervals.count {
            specials += intervals.all[index].verdict.argument_checks();
            index += 1;
        }
        // A search among n intervals makes n - 1 comparisons.
        let tail = HEAD + intervals.count - 1 + 2 * specials;
        let mut program =
            Self { instructions: [const { sock_filter { code: 0, jt: 0, jf: 0, k: 0 } }; LIMIT], length: 0 };
        program.push(LOAD, ARCHITECTURE, 0, 0);
        program.jump(JUMP_IF_EQUAL, architecture, HEAD - 1, tail + 3);
        program.push(LOAD, NUMBER, 0, 0);
        let mut next_check = tail - 2 * specials;
        program.search(&intervals, 0, intervals.count - 1, tail, &mut next_check);
        let mut index = 0;
        while index < intervals.count {
            let (code, value) = match intervals.all[index].verdict {
                Verdict::AllowedWithFlag { flag } => (JUMP_IF_SET, flag),
                Verdict::AllowedWithValue { value } => (JUMP_IF_EQUAL, value),
                _ => (0, 0),
            };
            if code != 0 {
                program.push(LOAD, FIRST_ARGUMENT, 0, 0);
                program.jump(code, value, tail, tail + 1);
            }
            index += 1;
        }
        assert!(program.length == tail, "what was counted was made");
        program.push(RETURN, ALLOW, 0, 0);
        program.push(RETURN, REFUSE, 0, 0);
        program.push(RETURN, MISSING, 0, 0);
        program.push(RETURN, KILL, 0, 0);
        assert!(program.length == tail + TAIL, "what was counted was made");
        program
    }

    pub(super) fn instructions(&self) -> &[sock_filter] {
        &self.instructions[..self.length]
    }

    const fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.instructions[self.length] = sock_filter { code, jt, jf, k };
        self.length += 1;
    }

    /// Adds a jump to one of two places.
    const fn jump(&mut self, code: u16, k: u32, then: usize, otherwise: usize) {
        let (jt, jf) = (then - self.length - 1, otherwise - self.length - 1);
        assert!(jt <= u8::MAX as usize && jf <= u8::MAX as usize, "the filter is too long for its jumps");
        self.push(code, k, jt as u8, jf as u8);
    }

    /// Adds the search among the intervals from `first` to `last`; returns
    /// where it begins. Checks of arguments stand in the order of intervals.
    const fn search(
        &mut self,
        intervals: &Intervals,
        first: usize,
        last: usize,
        tail: usize,
        next_check: &mut usize,
    ) -> usize {
        if first == last {
            return match intervals.all[first].verdict {
                Verdict::Allowed => tail,
                Verdict::Refused => tail + 1,
                Verdict::Missing => tail + 2,
                Verdict::AllowedWithFlag { .. } | Verdict::AllowedWithValue { .. } => {
                    *next_check += 2;
                    *next_check - 2
                }
            };
        }
        let middle = (first + last).div_ceil(2);
        let place = self.length;
        self.push(JUMP_IF_NOT_LESS, intervals.all[middle].start as u32, 0, 0);
        let below = self.search(intervals, first, middle - 1, tail, next_check);
        let above = self.search(intervals, middle, last, tail, next_check);
        let end = self.length;
        self.length = place;
        self.jump(JUMP_IF_NOT_LESS, intervals.all[middle].start as u32, above, below);
        self.length = end;
        place
    }
}

impl Verdict {
    const fn argument_checks(self) -> usize {
        matches!(self, Self::AllowedWithFlag { .. } | Self::AllowedWithValue { .. }) as usize
    }

    const fn is_same(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Allowed, Self::Allowed) | (Self::Refused, Self::Refused) | (Self::Missing, Self::Missing)
        )
    }
}

impl Intervals {
    const fn new(newest: i64, refused: &[&[i64]], special: &[(i64, Verdict)]) -> Self {
        let mut sorted = Self::empty();
        let mut list = 0;
        while list < refused.len() {
            let mut index = 0;
            while index < refused[list].len() {
                sorted.insert(refused[list][index], Verdict::Refused);
                index += 1;
            }
            list += 1;
        }
        let mut index = 0;
        while index < special.len() {
            sorted.insert(special[index].0, special[index].1);
            index += 1;
        }
        sorted.insert(newest + 1, Verdict::Missing);
        let mut intervals = Self::empty();
        intervals.push(0, Verdict::Allowed);
        let mut index = 0;
        while index < sorted.count {
            let Interval { start, verdict } = sorted.all[index];
            assert!(start <= newest + 1, "a system call is newer than the newest one");
            intervals.push(start, verdict);
            if start <= newest {
                intervals.push(start + 1, Verdict::Allowed);
            }
            index += 1;
        }
        intervals
    }

    const fn empty() -> Self {
        Self { all: [Interval { start: 0, verdict: Verdict::Allowed }; LIMIT], count: 0 }
    }

    /// Puts a system call at its place.
    const fn insert(&mut self, start: i64, verdict: Verdict) {
        let mut index = self.count;
        while index > 0 && self.all[index - 1].start > start {
            self.all[index] = self.all[index - 1];
            index -= 1;
        }
        assert!(index == 0 || self.all[index - 1].start < start, "a system call is named twice");
        self.all[index] = Interval { start, verdict };
        self.count += 1;
    }

    /// Adds what begins here. What has no length goes, and equal neighbours
    /// become one.
    const fn push(&mut self, start: i64, verdict: Verdict) {
        if self.count > 0 && self.all[self.count - 1].start == start {
            self.count -= 1;
        }
        if self.count > 0 && self.all[self.count - 1].verdict.is_same(verdict) {
            return;
        }
        self.all[self.count] = Interval { start, verdict };
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: u32 = 7;

    /// Runs a filter as the kernel does.
    fn run(program: &Program, architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program.instructions()[at];
            let mut jump = |condition: bool| at += usize::from(if condition { jt } else { jf });
            match code {
                LOAD if k == NUMBER => value = number,
                LOAD if k == ARCHITECTURE => value = architecture,
                LOAD if k == FIRST_ARGUMENT => value = argument,
                JUMP_IF_EQUAL => jump(value == k),
                JUMP_IF_NOT_LESS => jump(value >= k),
                JUMP_IF_SET => jump(value & k != 0),
                RETURN => return k,
                _ => panic!("instruction {code} with {k} at {at}"),
            }
            at += 1;
        }
    }

    #[test]
    fn every_number_gets_its_verdict() {
        const REFUSED: [&[i64]; 2] = [&[5, 0, 6, 30, 40], &[7, 29]];
        const PROGRAM: Program = Program::new(
            MACHINE,
            40,
            &REFUSED,
            &[
                (8, Verdict::AllowedWithFlag { flag: 4 }),
                (9, Verdict::AllowedWithValue { value: 16 }),
                (31, Verdict::Missing),
            ],
        );
        let run = |number, argument| run(&PROGRAM, MACHINE, number, argument);
        for number in 0..100 {
            let expected = match number {
                0 | 5..=7 | 29 | 30 | 40 => REFUSE,
                31 | 41.. => MISSING,
                8 | 9 => continue,
                _ => ALLOW,
            };
            assert_eq!(run(number, 0), expected, "{number}");
        }
        assert_eq!((run(8, 4 | 1), run(8, 1)), (ALLOW, REFUSE));
        assert_eq!((run(9, 16), run(9, 17)), (ALLOW, REFUSE));
        // The other way of calling on x86: the same numbers with a bit more.
        assert_eq!(run(0x4000_0000, 0), MISSING);
        assert_eq!(run(u32::MAX, 0), MISSING);
        assert_eq!(super::tests::run(&PROGRAM, MACHINE + 1, 1, 0), KILL);
    }
}
