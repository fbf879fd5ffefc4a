//! What a program in the sandbox tries, and what comes of it, as root and as an ordinary user. What is refused inside is
//! tried outside as well, where it must work: else the test would show nothing.

use backstop_tools::sandbox::{Access, Confined, Ended, Limits, Outcome, Sandbox, SandboxError};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

const HELPER: &str = env!("CARGO_BIN_EXE_backstop-sandbox");
/// The id of `nobody`.
const NOBODY: u32 = 65534;

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(HELPER, Vec::<String>::new())
}

/// A directory that a program works in, one beside it that is not its business, and who runs it.
pub(crate) struct Yard {
    dir: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
}

impl Yard {
    /// As the one who runs the tests.
    pub(crate) fn mine() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["work", "outside", "scratch"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("outside/secret"), "the secret").unwrap();
        let sandbox = sandbox().scratch(dir.path().join("scratch"));
        Self { dir, sandbox }
    }

    /// As somebody without rights, where root runs the tests.
    fn ordinary() -> Self {
        let yard = Self::mine();
        let helper = yard.path("helper");
        std::fs::copy(HELPER, &helper).unwrap();
        for name in ["", "work", "outside", "outside/secret", "scratch"] {
            chown(yard.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let id = NOBODY.to_string();
        let args = ["--reuid", &id, "--regid", &id, "--clear-groups", helper.to_str().unwrap()];
        let sandbox = Sandbox::new("/usr/bin/setpriv", args).scratch(yard.path("scratch"));
        Self { sandbox, ..yard }
    }

    pub(crate) fn all() -> Vec<Self> {
        let is_root = rustix::process::geteuid().is_root();
        if is_root { vec![Self::mine(), Self::ordinary()] } else { vec![Self::mine()] }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn confined(&self, argv: &[&str]) -> Confined {
        let work = self.path("work");
        Confined {
            argv: argv.iter().map(ToString::to_string).collect(),
            cwd: work.clone(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            stdin: String::new(),
            workspace: work,
            access: Access::Write,
            git: false,
            reserved: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            network: false,
            limits: Limits { wall_secs: 20, ..Limits::default() },
        }
    }

    pub(crate) async fn run(&self, confined: Confined) -> Outcome {
        self.sandbox.run(confined).await.unwrap()
    }

    /// What a script of the shell says, on both its outputs.
    async fn sh(&self, script: &str) -> String {
        let outcome = self.run(self.confined(&["sh", "-c", script])).await;
        outcome.stdout.text() + &outcome.stderr.text()
    }

    pub(crate) async fn perl(&self, script: &str) -> String {
        let outcome = self.run(self.confined(&["perl", "-e", &perl(script)])).await;
        outcome.stdout.text() + &outcome.stderr.text()
    }

    /// Whether nothing is left of the directories for temporary files.
    pub(crate) fn is_swept(&self) -> bool {
        std::fs::read_dir(self.path("scratch")).unwrap().next().is_none()
    }
}

/// A script with `tell`, which says whether something worked, and why not.
fn perl(script: &str) -> String {
    format!(
        "use Socket; my $room = 'x' x 200; sub tell_ {{ print $_[0] ? \"did it\" : \"refused: $!\" }} {script}"
    )
}

/// What a script says outside of any sandbox.
fn outside(program: &str, args: &[&str], cwd: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(cwd).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn said(outcome: &Outcome) -> (Ended, String, String) {
    (outcome.ended, outcome.stdout.text(), outcome.stderr.text())
}

/// The processes whose command line holds this text.
pub(crate) fn running(text: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_it = |id: &i32| {
        std::fs::read(format!("/proc/{id}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(text))
    };
    ids.filter(is_it).filter_map(Pid::from_raw).collect()
}

/// A duration in seconds for `sleep` that no other process on this machine has.
pub(crate) fn long() -> String {
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let digits: String = unique.bytes().map(|byte| char::from(b'0' + byte % 10)).take(18).collect();
    format!("3600.{digits}")
}

#[tokio::test]
async fn a_program_works_in_its_workspace() {
    for yard in Yard::all() {
        let script = "cat; echo more > made; mkdir -p a/b; mv made a/b; ln a/b/made hard; ln -s a soft; chmod 700 a; \
            cat soft/b/made; pwd; echo temporary > $TMPDIR/t; cat $TMPDIR/t; echo wrong >&2; exit 3";
        let confined = Confined { stdin: "given\n".to_owned(), ..yard.confined(&["sh", "-c", script]) };
        let outcome = yard.run(confined).await;
        let out = format!("given\nmore\n{}\ntemporary\n", yard.path("work").display());
        assert_eq!(said(&outcome), (Ended::Exited(3), out, "wrong\n".to_owned()));
        assert_eq!(std::fs::read_to_string(yard.path("work/a/b/made")).unwrap(), "more\n");
        assert!(yard.is_swept());
    }
}

#[tokio::test]
async fn nothing_outside_is_read() {
    let denied = "Permission denied";
    for yard in Yard::all() {
        let secret = yard.path("outside/secret").display().to_string();
        assert_eq!(outside("cat", &[&secret], &yard.path("work")), "the secret");
        std::os::unix::fs::symlink(&secret, yard.path("work/link")).unwrap();
        for path in [secret.as_str(), "link", "../outside/secret", "/proc/1/root/etc/hostname"] {
            assert_eq!(yard.sh(&format!("cat {path}")).await, format!("cat: {path}: {denied}\n"));
        }
        for path in ["/", "/etc", "/root", "/tmp", "/var", "/home", "/run", "/dev"] {
            assert_eq!(
                yard.sh(&format!("ls {path}")).await,
                format!("ls: cannot open directory '{path}': {denied}\n")
            );
        }
        for path in ["/etc/shadow", "/proc/1/environ", "/proc/1/mem"] {
            assert_eq!(yard.sh(&format!("cat {path}")).await, format!("cat: {path}: {denied}\n"));
        }
        // Nobody else is in /proc.
        assert_eq!(yard.sh("cd /proc; echo [0-9]*; exit").await, "1 2\n");
    }
}

#[tokio::test]
async fn nothing_outside_is_written() {
    for yard in Yard::all() {
        let outside_dir = yard.path("outside");
        let secret = outside_dir.join("secret");
        let (dir, file) = (outside_dir.display(), secret.display());
        let cases = [
            format!("tell_(open F, '>', '{file}')"),
            format!("tell_(open F, '>', '{dir}/new')"),
            format!("tell_(unlink '{file}')"),
            format!("tell_(rename '{file}', '{dir}/other')"),
            format!("tell_(mkdir '{dir}/new')"),
            format!("tell_(symlink 'a', '{dir}/new')"),
            format!("tell_(truncate '{file}', 0)"),
            // What Landlock lets pass.
            format!("tell_(chmod 0777, '{file}')"),
            format!("tell_(chown $<, $( + 0, '{file}')"),
            format!("tell_(utime 1, 1, '{file}')"),
            "tell_(open F, '>', 'through')".to_owned(),
            "tell_(chmod 0777, 'through')".to_owned(),
        ];
        std::os::unix::fs::symlink(&secret, yard.path("work/through")).unwrap();
        for script in cases {
            let said = yard.perl(&script).await;
            let refused = ["refused: Read-only file system", "refused: Permission denied"];
            assert!(refused.contains(&said.as_str()), "{script}: {said}");
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "the secret");
        assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        let script = format!("tell_(chmod 0600, '{file}')");
        assert_eq!(outside("perl", &["-e", &perl(&script)], &outside_dir), "did it");
    }
}

#[tokio::test]
async fn a_hard_link_brings_nothing_in_or_out() {
    let refused = |said: &str| {
        let known = ["refused: Invalid cross-device link", "refused: Read-only file system"];
        assert!(known.contains(&said), "{said}");
    };
    for yard in Yard::all() {
        let secret = yard.path("outside/secret").display().to_string();
        let script = format!("tell_(link '{secret}', 'taken')");
        refused(&yard.perl(&script).await);
        let script =
            format!("open F, '>', 'mine'; tell_(link 'mine', '{}')", yard.path("outside/put").display());
        refused(&yard.perl(&script).await);
        let script = format!("tell_(rename 'mine', '{}')", yard.path("outside/put").display());
        refused(&yard.perl(&script).await);
        let script = format!("tell_(link '{secret}', 'taken')");
        assert_eq!(outside("perl", &["-e", &perl(&script)], &yard.path("work")), "did it");
    }
}

#[tokio::test]
async fn git_and_what_is_reserved_are_kept() {
    for yard in Yard::all() {
        for (path, text) in
            [(".git/config", "[core]"), ("own/journal", "events"), ("config.toml", "[agents]")]
        {
            let path = yard.path("work").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            for path in [path.parent().unwrap(), &path] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
            }
        }
        let reserved = vec![yard.path("work/own"), yard.path("work/config.toml"), yard.path("work/later")];
        let script = "cat .git/config; echo; cat own/journal; cat config.toml; echo x > config.toml; echo x > own/x; \
            echo x > .git/hooks; mv .git away; rm -rf own; chmod 777 .git; touch later; ls own";
        let confined = Confined { reserved: reserved.clone(), ..yard.confined(&["sh", "-c", script]) };
        let outcome = yard.run(confined).await;
        let all = outcome.stdout.text() + &outcome.stderr.text();
        assert!(all.starts_with("[core]\n"), "{all}");
        assert!(!all.contains("events") && !all.contains("agents"), "{all}");
        for kept in [
            "cannot create .git/hooks: Read-only file system",
            "mv: cannot move '.git'",
            "changing permissions of '.git': Read-only",
        ] {
            assert!(all.contains(kept), "{all}");
        }
        assert_eq!(std::fs::read_to_string(yard.path("work/own/journal")).unwrap(), "events");
        assert_eq!(std::fs::read_to_string(yard.path("work/config.toml")).unwrap(), "[agents]");
        assert!(!yard.path("work/.git/hooks").exists());
        assert_eq!(outcome.planted, [yard.path("work/later")]);

        let confined = Confined { git: true, ..yard.confined(&["sh", "-c", "echo x > .git/hooks"]) };
        assert_eq!(said(&yard.run(confined).await), (Ended::Exited(0), String::new(), String::new()));
    }
}

#[tokio::test]
async fn a_program_that_only_reads_can_only_read() {
    for yard in Yard::all() {
        std::fs::write(yard.path("work/a"), "here").unwrap();
        let script = "cat a; rm a; echo > b; chmod 777 a; echo t > $TMPDIR/t && cat $TMPDIR/t";
        let confined = Confined { access: Access::Read, ..yard.confined(&["sh", "-c", script]) };
        let outcome = yard.run(confined).await;
        assert_eq!(outcome.stdout.text(), "heret\n");
        assert_eq!(std::fs::read_to_string(yard.path("work/a")).unwrap(), "here");
        assert!(!yard.path("work/b").exists());
    }
}

#[tokio::test]
async fn paths_can_be_granted() {
    for yard in Yard::all() {
        std::fs::create_dir(yard.path("outside/more")).unwrap();
        std::fs::set_permissions(yard.path("outside/more"), std::fs::Permissions::from_mode(0o777)).unwrap();
        let dir = yard.path("outside");
        let script = format!("cat {0}/secret; echo x > {0}/more/x; echo x > {0}/x", dir.display());
        let confined = Confined {
            read: vec![dir.clone()],
            write: vec![dir.join("more")],
            ..yard.confined(&["sh", "-c", &script])
        };
        let outcome = yard.run(confined).await;
        let refused = format!("sh: 1: cannot create {}/x: Read-only file system\n", dir.display());
        assert_eq!(said(&outcome), (Ended::Exited(2), "the secret".to_owned(), refused));
        assert_eq!(std::fs::read_to_string(dir.join("more/x")).unwrap(), "x\n");
    }
}

#[tokio::test]
async fn the_network_is_out_of_reach() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("backstop-{}", long());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for yard in Yard::all() {
        let by_path = yard.path("work/socket");
        let _listener = UnixListener::bind(&by_path).unwrap();
        std::fs::set_permissions(&by_path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let to = |port: u16| format!("sockaddr_in({port}, inet_aton('127.0.0.1'))");
        let cases = [
            format!(
                "tell_(socket(S, AF_INET, SOCK_STREAM, 0) && connect(S, {}))",
                to(tcp.local_addr().unwrap().port())
            ),
            format!(
                "tell_(socket(S, AF_INET, SOCK_DGRAM, 0) && send(S, 'x', 0, {}))",
                to(udp.local_addr().unwrap().port())
            ),
            format!(
                "tell_(socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, pack('Sa*', AF_UNIX, \"\\0{name}\")))"
            ),
            "tell_(socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un('socket')))".to_owned(),
            "tell_(socketpair(A, B, AF_UNIX, SOCK_DGRAM, 0))".to_owned(),
        ];
        for script in cases {
            assert_eq!(yard.perl(&script).await, "refused: Operation not permitted", "{script}");
            assert_eq!(outside("perl", &["-e", &perl(&script)], &yard.path("work")), "did it", "{script}");
        }
        assert_eq!(
            yard.perl("tell_(socket(S, AF_INET6, SOCK_STREAM, 0))").await,
            "refused: Operation not permitted"
        );
        assert_eq!(yard.perl("tell_(socket(S, 16, SOCK_RAW, 0))").await, "refused: Operation not permitted");
        assert_eq!(yard.perl("tell_(socketpair(A, B, AF_UNIX, SOCK_STREAM, 0))").await, "did it");
    }
}

#[tokio::test]
async fn a_network_that_is_granted_is_just_the_network() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    for yard in Yard::all() {
        let connect = format!(
            "tell_(socket(S, AF_INET, SOCK_STREAM, 0) && connect(S, sockaddr_in({port}, inet_aton('127.0.0.1'))))"
        );
        let refused = "refused: Operation not permitted";
        for (script, want) in [
            (connect.as_str(), "did it"),
            ("tell_(socket(S, AF_INET, SOCK_DGRAM, 0))", "did it"),
            ("tell_(socket(S, 16, SOCK_RAW, 0))", "did it"),
            ("tell_(socket(S, AF_UNIX, SOCK_STREAM, 0))", refused),
            ("tell_(socket(S, AF_INET, SOCK_RAW, 1))", refused),
            ("tell_(socket(S, 17, SOCK_RAW, 0))", refused),
            ("tell_(socket(S, 40, SOCK_STREAM, 0))", refused),
            ("tell_(socket(S, 16, SOCK_RAW, 9))", refused),
        ] {
            let confined = Confined { network: true, ..yard.confined(&["perl", "-e", &perl(script)]) };
            assert_eq!(yard.run(confined).await.stdout.text(), want, "{script}");
        }
    }
}

#[tokio::test]
async fn system_calls_that_lead_out_are_refused() {
    let calls = [
        ("ptrace", libc::SYS_ptrace, "0, 0, 0, 0"),
        ("process_vm_readv", libc::SYS_process_vm_readv, "$$, 0, 0, 0, 0, 0"),
        ("process_vm_writev", libc::SYS_process_vm_writev, "$$, 0, 0, 0, 0, 0"),
        ("io_uring_setup", libc::SYS_io_uring_setup, "1, $room"),
        ("mount", libc::SYS_mount, "my $a = 'none', my $b = '/mnt', my $c = 'tmpfs', 0, 0"),
        ("umount2", libc::SYS_umount2, "my $a = '/proc', 2"),
        ("unshare", libc::SYS_unshare, "0x10000000"),
        ("setns", libc::SYS_setns, "0, 0"),
        ("clone into a user namespace", libc::SYS_clone, "0x10000011, 0, 0, 0, 0"),
        ("clone into a time namespace", libc::SYS_clone, "0x91, 0, 0, 0, 0"),
        ("keyctl", libc::SYS_keyctl, "0, -3, 0"),
        ("bpf", libc::SYS_bpf, "0, 0, 0"),
        ("userfaultfd", libc::SYS_userfaultfd, "1"),
        ("perf_event_open", libc::SYS_perf_event_open, "0, 0, 0, 0, 0"),
        ("kexec_load", libc::SYS_kexec_load, "0, 0, 0, 0"),
        ("init_module", libc::SYS_init_module, "0, 0, 0"),
        ("memfd_create", libc::SYS_memfd_create, "$room, 0"),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, "0, 0, 0"),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, "0, 0, 0"),
        ("prlimit of another", libc::SYS_prlimit64, "1, 0, 0, 0"),
        ("sched_setaffinity of another", libc::SYS_sched_setaffinity, "1, 8, $room"),
        ("setpriority of another", libc::SYS_setpriority, "0, 1, 1"),
        ("shmget", libc::SYS_shmget, "0, 4096, 0x380"),
        ("typing into a terminal", libc::SYS_ioctl, "0, 0x5412, $room"),
        ("reboot", libc::SYS_reboot, "0, 0, 0, 0"),
    ];
    for yard in Yard::all() {
        for (name, number, args) in calls {
            let said = yard.perl(&format!("tell_(-1 != syscall({number}, {args}))")).await;
            assert_eq!(said, "refused: Operation not permitted", "{name}");
        }
        // Numbers that no kernel has, those of another ABI, and clone3 are not there at all.
        for number in [100_000, 0x4000_0000 + libc::SYS_getpid, libc::SYS_clone3] {
            let said = yard.perl(&format!("tell_(-1 != syscall({number}, 0, 0))")).await;
            assert_eq!(said, "refused: Function not implemented", "{number}");
        }
    }
    let traced = format!("tell_(-1 != syscall({}, 0, 0, 0, 0))", libc::SYS_ptrace);
    assert_eq!(outside("perl", &["-e", &perl(&traced)], Path::new("/")), "did it");
}

#[tokio::test]
async fn no_right_is_left_but_that_of_root_over_its_files() {
    for yard in Yard::all() {
        let status = yard.sh("id -u; grep -e ^Cap -e ^NoNewPrivs: -e ^Seccomp: /proc/self/status").await;
        let fields = status.replace(':', "").replace('\t', " ");
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
        let held = if fields.starts_with("0\n") { "000000000000001b" } else { "0000000000000000" };
        let bounding = if rustix::process::geteuid().is_root() { "000000000000001b" } else { held };
        let none = "0000000000000000";
        let want = format!(
            "CapInh {none}\nCapPrm {held}\nCapEff {held}\nCapBnd {bounding}\nCapAmb {none}\nNoNewPrivs 1\nSeccomp 2\n"
        );
        assert_eq!(fields.split_once('\n').unwrap().1, want);
    }
}

#[tokio::test]
async fn what_the_runner_has_is_not_for_the_program() {
    for yard in Yard::all() {
        assert!(std::env::vars_os().count() > 3, "the runner has variables of its own");
        let env = yard.sh("echo $TMPDIR; env | grep -v -e ^PWD= -e ^_= -e ^OLDPWD= | sort").await;
        let (tmp, env) = env.split_once('\n').unwrap();
        assert_eq!(env, format!("HOME={tmp}\nPATH=/usr/bin:/bin\nTMPDIR={tmp}\n"));
        // A file that is open and not marked to be closed.
        let leaked = std::fs::File::open(yard.path("outside/secret")).unwrap();
        let leaked = rustix::io::fcntl_dupfd_cloexec(&leaked, 50).unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let script = "cat <&50 2>/dev/null || echo closed";
        assert_eq!(outside("bash", &["-c", script], &yard.path("work")), "the secret");
        let outcome = yard.run(yard.confined(&["bash", "-c", script])).await;
        assert_eq!(outcome.stdout.text(), "closed\n");
    }
}

#[tokio::test]
async fn limits_hold() {
    const XCPU: i32 = libc::SIGXCPU;
    const XFSZ: i32 = libc::SIGXFSZ;
    let limits = Limits {
        wall_secs: 20,
        cpu_secs: 1,
        memory_mib: 100,
        file_mib: 1,
        open_files: 20,
        ..Limits::default()
    };
    let cases = [
        ("1 while 1", Ended::Signalled(XCPU), ""),
        ("$SIG{XCPU} = 'IGNORE'; 1 while 1", Ended::OutOfCpu, ""),
        // Each of them little, and one after the other.
        (
            "while (1) { if (fork) { wait } else { $t = times; 1 while times() < 0.3; exit } }",
            Ended::OutOfCpu,
            "",
        ),
        (
            "open F, '>', 'f'; $SIG{XFSZ} = 'DEFAULT'; $x = 'x' x 500000; syswrite F, $x for 1..9",
            Ended::Signalled(XFSZ),
            "",
        ),
        (
            "for (0..100) { open $f[$_], '<', '/dev/null' or do { print \"$!\"; last } }",
            Ended::Exited(0),
            "Too many open files",
        ),
        ("for (1..4) { fork or do { $x = 'x' x 30_000_000; sleep 99 } } sleep 99", Ended::TooMuchMemory, ""),
    ];
    for yard in Yard::all() {
        for (script, ended, out) in &cases {
            let confined = Confined { limits: limits.clone(), ..yard.confined(&["perl", "-e", script]) };
            let outcome = yard.run(confined).await;
            assert_eq!((outcome.ended, outcome.stdout.text().as_str()), (*ended, *out), "{script}");
        }
        let hog = yard.confined(&["perl", "-e", "$x = 'x' x 300_000_000; print 'had it'"]);
        let outcome = yard.run(Confined { limits: limits.clone(), ..hog }).await;
        assert!(outcome.ended != Ended::Exited(0) && outcome.stdout.text().is_empty(), "{outcome:?}");
        let outcome = yard.run(yard.confined(&["perl", "-e", "print 'x' x 1_000_000"])).await;
        let kept = (outcome.stdout.head.len() + outcome.stdout.tail.len()) as u64;
        assert_eq!(
            (outcome.ended, kept, outcome.stdout.left_out),
            (Ended::Exited(0), 32 * 1024, 1_000_000 - 32 * 1024)
        );
        assert!(yard.sh("ulimit -c; ulimit -Hf").await.starts_with("0\n"));
    }
}

#[tokio::test]
async fn what_a_program_leaves_in_its_temporary_directory_is_removed() {
    for yard in Yard::all() {
        let script = "mkdir -p $TMPDIR/a/b; touch $TMPDIR/a/b/c; chmod 000 $TMPDIR/a/b $TMPDIR/a; \
            ln -s $PWD $TMPDIR/link; touch kept; mkdir keep; chmod 500 keep";
        assert_eq!(yard.sh(script).await, "");
        assert!(yard.is_swept());
        assert!(yard.path("work/kept").exists());
        assert_eq!(yard.path("work/keep").metadata().unwrap().permissions().mode() & 0o777, 0o500);
    }
}

#[tokio::test]
async fn nothing_runs_that_cannot_be_started() {
    for yard in Yard::all() {
        let error = yard.sandbox.run(yard.confined(&["no-such-program"])).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "nothing was run: no-such-program: No such file or directory (os error 2)"
        );
        let cwd = yard.path("work/nowhere");
        let error =
            yard.sandbox.run(Confined { cwd: cwd.clone(), ..yard.confined(&["ls"]) }).await.unwrap_err();
        let SandboxError::NotStarted(reason) = error else { panic!("{error}") };
        assert_eq!(reason, format!("there is no directory {}", cwd.display()));
        assert!(yard.is_swept());
    }
    let error = Sandbox::new("/no/such/helper", [""]).run(Yard::mine().confined(&["ls"])).await.unwrap_err();
    assert!(matches!(error, SandboxError::NotStarted(_)), "{error}");
}

#[tokio::test]
async fn nothing_runs_where_it_is_not_confined() {
    let yard = Yard::mine();
    // A machine on which nobody may make a namespace.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; \
        exec setpriv --bounding-set=-all --inh-caps=-all \"$0\"";
    let sandbox = Sandbox::new("unshare", ["--map-root-user", "sh", "-c", script, HELPER])
        .scratch(yard.path("scratch"));
    let error = sandbox.run(yard.confined(&["touch", "ran"])).await.unwrap_err();
    let SandboxError::Lacks(what) = &error else { panic!("{error}") };
    assert!(what.contains("user.max_user_namespaces") && what.contains("No space left"), "{what}");
    assert!(!yard.path("work/ran").exists() && yard.is_swept());
}
