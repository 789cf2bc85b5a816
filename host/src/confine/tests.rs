//! Processes that confine themselves and then try what they must not do.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;
use std::thread;
use std::time::Instant;

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::needs::{Missing, Place, Use};
use super::*;

/// Runs `work` in a process of its own; what it finds wrong is the test's
/// failure.
fn in_a_process(work: impl FnOnce() -> Result<(), String>) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    // SAFETY: the child uses nothing that another thread may have locked but
    // the allocator, which the C library keeps usable.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            if let Err(reason) = work() {
                let _ = nix::unistd::write(&writer, reason.as_bytes());
            }
            // SAFETY: ends the process at once, as is wanted.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let said = io::read_to_string(fs::File::from(reader)).unwrap();
            let status = waitpid(child, None).unwrap();
            assert_eq!((said.as_str(), status), ("", WaitStatus::Exited(child, 0)));
        }
    }
}

fn refused(what: &str, errno: i32, result: i64) -> Result<(), String> {
    let error = io::Error::last_os_error();
    if result == -1 && error.raw_os_error() == Some(errno) {
        Ok(())
    } else {
        Err(format!("{what}: it returned {result}, {error}; "))
    }
}

fn denied<T>(what: &str, result: io::Result<T>) -> Result<(), String> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("{what}: {error}")),
        Ok(_) => Err(format!("{what}: it succeeded")),
    }
}

fn worked<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// Makes a system call that has to be refused before its arguments count.
fn call(number: libc::c_long, arguments: [libc::c_long; 3]) -> i64 {
    // SAFETY: the filter refuses the call; else, all zeros are refused by the
    // kernel, as no call here takes them.
    unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) }
}

#[test]
fn system_calls_of_intruders_are_refused() {
    in_a_process(|| {
        syscalls::restrict()?;
        let program = CString::new("/bin/true").unwrap();
        let arguments = [program.as_ptr(), ptr::null()];
        // SAFETY: both lists end with a null pointer and live until it returns.
        let executed = unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), arguments[1..].as_ptr()) };
        refused("execve", libc::EPERM, executed.into())?;
        for (what, number) in [
            ("execveat", libc::SYS_execveat),
            ("ptrace", libc::SYS_ptrace),
            ("mount", libc::SYS_mount),
            ("umount2", libc::SYS_umount2),
            ("open_tree", libc::SYS_open_tree),
            ("fsopen", libc::SYS_fsopen),
            ("setns", libc::SYS_setns),
            ("unshare", libc::SYS_unshare),
            ("bpf", libc::SYS_bpf),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("init_module", libc::SYS_init_module),
            ("finit_module", libc::SYS_finit_module),
            ("kexec_load", libc::SYS_kexec_load),
            ("keyctl", libc::SYS_keyctl),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("process_vm_writev", libc::SYS_process_vm_writev),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("chroot", libc::SYS_chroot),
            ("pivot_root", libc::SYS_pivot_root),
            ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ] {
            refused(what, libc::EPERM, call(number, [0; 3]))?;
        }
        refused("fork", libc::EPERM, call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]))?;
        refused("clone3", libc::ENOSYS, call(libc::SYS_clone3, [0; 3]))?;
        refused("a call of the future", libc::ENOSYS, call(5000, [0; 3]))
    });
}

#[test]
fn sockets_are_those_of_netlink() {
    in_a_process(|| {
        syscalls::restrict()?;
        denied("connect to a service", UnixStream::connect("/run/dbus/system_bus_socket"))?;
        denied("listen", TcpListener::bind("127.0.0.1:0"))?;
        worked("netlink", rtnetlink::sys::Socket::new(rtnetlink::sys::protocols::NETLINK_ROUTE)).map(drop)
    });
}

#[test]
fn what_a_call_does_still_works_under_the_filter() {
    in_a_process(|| {
        syscalls::restrict()?;
        let joined = thread::Builder::new().spawn(|| 7).map(thread::JoinHandle::join);
        if !matches!(joined, Ok(Ok(7))) {
            return Err("a thread".to_owned());
        }
        let started = Instant::now();
        thread::sleep(std::time::Duration::from_millis(1));
        let deadline = crate::engine::Deadline::after(std::time::Duration::from_millis(2));
        worked("a timer", deadline)?;
        worked("a file", fs::read("/proc/self/status"))?;
        if started.elapsed().is_zero() { Err("the clock".to_owned()) } else { Ok(()) }
    });
}

fn needs(paths: &[(&Path, Use)]) -> Needs {
    let place = |(path, wanted): &(&Path, Use)| Place {
        path: (*path).to_owned(),
        wanted: *wanted,
        missing: Missing::Skip,
        is_real: false,
    };
    Needs { places: paths.iter().map(place).collect(), ..Needs::default() }
}

fn has_landlock() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let needs = needs(&[(directory.path(), Use::Read)]);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    // SAFETY: as above.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let mut capabilities = Capabilities::lower(&needs);
            let _ = nix::unistd::write(
                &writer,
                match Files::open(&needs, &mut capabilities).and_then(Files::restrict) {
                    Ok(()) => b"y",
                    Err(_) => b"n",
                },
            );
            // SAFETY: ends the process at once, as is wanted.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let said = io::read_to_string(fs::File::from(reader)).unwrap();
            waitpid(child, None).unwrap();
            said == "y"
        }
    }
}

#[test]
fn other_files_are_out_of_reach() {
    if !has_landlock() {
        eprintln!("this kernel has no landlock, so that nothing can be shown");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["own", "read", "other"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("file"), name).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    in_a_process(|| {
        let (own, read) = (path("own"), path("read"));
        let needs = needs(&[(&own, Use::Write), (&read, Use::Read), (Path::new("/nonexistent"), Use::Write)]);
        let mut capabilities = Capabilities::lower(&needs);
        Files::open(&needs, &mut capabilities)?.restrict()?;
        worked("write an own file", fs::write(own.join("new"), "x"))?;
        worked("rename an own file", fs::rename(own.join("new"), own.join("newer")))?;
        worked("remove an own file", fs::remove_file(own.join("newer")))?;
        worked("make an own directory", fs::create_dir(own.join("directory")))?;
        worked("write in it", fs::write(own.join("directory/file"), "x"))?;
        worked("read", fs::read(read.join("file")))?;
        denied("write what is read", fs::write(read.join("file"), "x"))?;
        denied("make what is read", fs::write(read.join("new"), "x"))?;
        for file in ["/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/sys/kernel/core_pattern"] {
            denied(file, fs::read(file))?;
        }
        denied("read", fs::read(path("other/file")))?;
        denied("write", fs::write(path("other/file"), "x"))?;
        denied("a new file", fs::write(path("new"), "x"))?;
        denied("a link out", std::os::unix::fs::symlink("/etc", own.join("link")))?;
        denied("the core pattern", fs::OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern"))?;
        denied("connect", TcpStream::connect(address))
    });
    assert_eq!(fs::read_to_string(path("other/file")).unwrap(), "other");
}

#[test]
fn capabilities_are_given_up_for_good() {
    in_a_process(|| {
        let needs = Needs { network: true, ..Needs::default() };
        let had = rustix::thread::capabilities(None).map_err(|errno| errno.to_string())?;
        Capabilities::lower(&needs).give_up()?;
        let net_admin = rustix::thread::CapabilitySet::NET_ADMIN;
        let has = rustix::thread::capabilities(None).map_err(|errno| errno.to_string())?;
        let expected = had.permitted & net_admin;
        if (has.effective, has.permitted) != (expected, expected) || !has.inheritable.is_empty() {
            return Err(format!("it has {has:?}"));
        }
        let raised = rustix::thread::CapabilitySets { permitted: had.permitted, ..has };
        if had.permitted != expected && rustix::thread::set_capabilities(None, raised).is_ok() {
            return Err("they can be raised again".to_owned());
        }
        executed_capabilities(&format!("{:016x}", 0))
    });
}

#[test]
fn a_program_of_root_has_the_capabilities_that_weir_gave_up() {
    let had = rustix::thread::capabilities(None).unwrap();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("without root, nothing can be shown");
        return;
    }
    in_a_process(|| {
        let needs = Needs { network: true, program: Some("dhcp".to_owned()), ..Needs::default() };
        Capabilities::lower(&needs).leave_to_program();
        let has = rustix::thread::capabilities(None).map_err(|errno| errno.to_string())?;
        if has.permitted.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
            return Err(format!("it has {has:?}"));
        }
        executed_capabilities(&format!("{:016x}", had.permitted.bits() & ((1 << 41) - 1)))
    });
}

/// Executes a program that tells what it may do.
#[expect(clippy::disallowed_methods, reason = "it shows what a program that is executed may do")]
fn executed_capabilities(expected: &str) -> Result<(), String> {
    let output = std::process::Command::new("/bin/grep").args(["CapEff", "/proc/self/status"]).output();
    let text = String::from_utf8_lossy(&worked("execute a program", output)?.stdout).into_owned();
    if text.trim_end().ends_with(expected) { Ok(()) } else { Err(format!("it has {text}, not {expected}")) }
}

type Piece<'a> = &'a dyn Fn() -> Result<(), String>;

/// Prints what each piece costs a process.
#[test]
#[ignore = "a measurement: cargo test -p weir --lib -- --ignored --nocapture cost_of_each_piece"]
fn cost_of_each_piece() {
    const ROUNDS: usize = 300;
    let state = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = state.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (attachments, index, pool) = (path("attachments"), path("leases"), path("pool"));
    let needs = Needs {
        network: true,
        ..needs(&[
            (&attachments, Use::Write),
            (&index, Use::Write),
            (&pool, Use::Write),
            (Path::new("/proc/sys/net"), Use::Settings),
        ])
    };
    let pieces: [(&str, Piece<'_>); 4] = [
        ("capabilities", &|| Capabilities::lower(&needs).give_up()),
        ("files", &|| Files::open(&needs, &mut Capabilities::lower(&needs))?.restrict()),
        ("system calls", &syscalls::restrict),
        ("all", &|| {
            let mut capabilities = Capabilities::lower(&needs);
            Files::open(&needs, &mut capabilities)?.restrict()?;
            capabilities.give_up()?;
            syscalls::restrict()
        }),
    ];
    for (name, piece) in pieces {
        let mut times: Vec<u128> = (0..ROUNDS)
            .map(|_| {
                let (reader, writer) = nix::unistd::pipe().unwrap();
                // SAFETY: as above.
                match unsafe { fork() }.unwrap() {
                    ForkResult::Child => {
                        let started = Instant::now();
                        let done = piece();
                        let time = started.elapsed().as_nanos();
                        let _ =
                            nix::unistd::write(&writer, &if done.is_ok() { time } else { 0 }.to_le_bytes());
                        // SAFETY: ends the process at once, as is wanted.
                        unsafe { libc::_exit(0) }
                    }
                    ForkResult::Parent { child } => {
                        drop(writer);
                        let mut time = [0; 16];
                        io::Read::read_exact(&mut fs::File::from(reader), &mut time).unwrap();
                        waitpid(child, None).unwrap();
                        u128::from_le_bytes(time)
                    }
                }
            })
            .collect();
        times.sort_unstable();
        println!("{name}: {} µs", times[ROUNDS / 2] as f64 / 1000.0);
    }
}
