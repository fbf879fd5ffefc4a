//! The walls of a workspace against paths, links and files that try to get out of it.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

/// A directory with a workspace `in` and something outside, `out/secret`, that must stay as it is.
fn house() -> (tempfile::TempDir, Workspace) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("in/sub")).unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("out/secret"), "secret").unwrap();
    std::fs::write(dir.path().join("in/a.txt"), "a").unwrap();
    let workspace = Workspace::open(&dir.path().join("in")).unwrap();
    (dir, workspace)
}

fn read(workspace: &Workspace, text: &str) -> Result<String, PathError> {
    let file = workspace.read(&workspace.relative(text)?, 100)?;
    Ok(String::from_utf8(file.bytes).unwrap())
}

fn write(workspace: &Workspace, text: &str) -> Result<(), PathError> {
    workspace.replace(&workspace.relative(text)?, b"new", None, "key1")
}

#[test]
fn nothing_leads_out() {
    let (dir, workspace) = house();
    let root = dir.path();
    symlink(root.join("out/secret"), root.join("in/link")).unwrap();
    symlink("../out/secret", root.join("in/link2")).unwrap();
    symlink("../out", root.join("in/dir")).unwrap();
    symlink("/", root.join("in/rootdir")).unwrap();
    symlink("/proc/self/root", root.join("in/magic")).unwrap();
    symlink("/proc/self/cwd", root.join("in/cwd")).unwrap();
    let outside = root.join("out/secret");
    let deep = format!("rootdir{}", outside.display());
    let magic = format!("magic{}", outside.display());
    let paths = [
        "../out/secret",
        "sub/../../out/secret",
        outside.to_str().unwrap(),
        "/etc/passwd",
        "/proc/self/root/etc/passwd",
        "dir/secret",
        "link",
        "link2",
        &deep,
        &magic,
        "cwd/Cargo.toml",
    ];
    for path in paths {
        assert_eq!(read(&workspace, path), Err(PathError::Outside), "read {path}");
        let refused = write(&workspace, path).unwrap_err();
        assert!(
            matches!(refused, PathError::Outside | PathError::NotAFile("a symbolic link")),
            "write {path}: {refused:?}"
        );
    }
    for path in ["dir", "rootdir", "magic", "cwd"] {
        assert_eq!(workspace.entries(Path::new(path)), Err(PathError::Outside), "list {path}");
        assert_eq!(write(&workspace, &format!("{path}/new/file")), Err(PathError::Outside), "make {path}");
    }
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(root.join("out")).unwrap().count(), 1, "nothing was made outside");
}

#[test]
fn links_that_stay_inside_can_be_read_through() {
    let (dir, workspace) = house();
    symlink("sub", dir.path().join("in/inner")).unwrap();
    std::fs::write(dir.path().join("in/sub/b.txt"), "b").unwrap();
    assert_eq!(read(&workspace, "inner/b.txt").unwrap(), "b");
    write(&workspace, "inner/c.txt").unwrap();
    assert_eq!(read(&workspace, "sub/c.txt").unwrap(), "new");
    let absolute = dir.path().canonicalize().unwrap().join("in/a.txt");
    assert_eq!(read(&workspace, absolute.to_str().unwrap()).unwrap(), "a", "its own absolute path is fine");
}

#[test]
fn odd_names_and_odd_files_are_refused() {
    let (dir, workspace) = house();
    let root = dir.path().join("in");
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let long = "x".repeat(300);
    assert_eq!(read(&workspace, "pipe"), Err(PathError::NotAFile("a pipe")), "and it does not block");
    assert!(matches!(read(&workspace, "socket"), Err(PathError::NotAFile(_))));
    assert!(matches!(read(&workspace, "loop"), Err(PathError::BadName(_))));
    assert!(matches!(read(&workspace, &long), Err(PathError::BadName(_))));
    assert!(matches!(read(&workspace, &"d/".repeat(3000)), Err(PathError::BadName(_))));
    assert!(matches!(read(&workspace, "a\0b"), Err(PathError::BadName(_))));
    assert_eq!(read(&workspace, "sub"), Err(PathError::NotAFile("a directory")));
    assert_eq!(read(&workspace, ""), Err(PathError::NotAFile("a directory")));
    assert_eq!(read(&workspace, "a.txt/b"), Err(PathError::NotADirectory));
    assert_eq!(read(&workspace, "none"), Err(PathError::NotFound));
    for path in ["pipe", "socket", "loop", "sub", "", "."] {
        assert!(matches!(write(&workspace, path), Err(PathError::NotAFile(_))), "{path}");
    }
    assert!(matches!(write(&workspace, &long), Err(PathError::BadName(_))));
    assert_eq!(write(&workspace, "a.txt/b"), Err(PathError::NotADirectory));
    assert!(matches!(workspace.read(Path::new("a.txt"), 0), Err(PathError::TooLarge { bytes: 1, max: 0 })));
    assert!(matches!(Workspace::open(Path::new("/dev/null")), Err(PathError::NotADirectory)));
}

/// A directory is swapped for a link to the outside again and again while we write and read through it.
#[test]
fn a_swap_in_between_is_no_way_out() {
    struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let (dir, workspace) = house();
    let root = dir.path().join("in");
    std::fs::write(root.join("sub/secret"), "inside").unwrap();
    symlink("../out", root.join("swap")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when an assertion fails, or the other thread would swap for ever.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (one, other) = (root.join("sub"), root.join("swap"));
                rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags).unwrap();
            }
        });
        let (mut inside, mut refused) = (0, 0);
        for n in 0..20_000 {
            match read(&workspace, "sub/secret") {
                Ok(text) => {
                    assert_ne!(text, "secret", "read outside at {n}");
                    inside += 1;
                }
                Err(_) => refused += 1,
            }
            if n % 100 == 0 {
                drop(workspace.replace(Path::new("sub/new"), b"new", None, "key1"));
            }
        }
        assert!(inside > 0 && refused > 0, "the race took place: {inside} inside, {refused} refused");
    });
    assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 1, "nothing was written outside");
    assert_eq!(std::fs::read_to_string(dir.path().join("out/secret")).unwrap(), "secret");
}

#[test]
fn replacing_keeps_the_mode_makes_directories_and_leaves_nothing_beside() {
    let (dir, workspace) = house();
    let root = dir.path().join("in");
    std::fs::set_permissions(root.join("a.txt"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::write(root.join(".backstop-key1.tmp"), "left by a crash").unwrap();
    write(&workspace, "a.txt").unwrap();
    assert_eq!(std::fs::metadata(root.join("a.txt")).unwrap().mode() & 0o7777, 0o640);
    write(&workspace, "new/er/file").unwrap();
    assert_eq!(read(&workspace, "new/er/file").unwrap(), "new");
    let names: Vec<_> =
        workspace.entries(Path::new("")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a.txt", "new", "sub"]);
}

/// A hard link to something outside can be read, as anything that was put into the workspace; writing replaces the link
/// and leaves the bytes outside alone.
#[test]
fn a_hard_link_is_replaced_and_not_written_through() {
    let (dir, workspace) = house();
    std::fs::hard_link(dir.path().join("out/secret"), dir.path().join("in/hard")).unwrap();
    write(&workspace, "hard").unwrap();
    assert_eq!(read(&workspace, "hard").unwrap(), "new");
    assert_eq!(std::fs::read_to_string(dir.path().join("out/secret")).unwrap(), "secret");
}

#[test]
fn a_write_that_fails_leaves_the_file_as_it_was() {
    let (dir, workspace) = house();
    let root = dir.path().join("in");
    // Something that is no file stands where the new bytes would be written first.
    std::fs::create_dir(root.join(".backstop-key1.tmp")).unwrap();
    assert!(write(&workspace, "a.txt").is_err());
    assert_eq!(read(&workspace, "a.txt").unwrap(), "a");
}

#[test]
fn what_is_reserved_is_not_there_for_tools_whatever_leads_to_it() {
    let (dir, workspace) = house();
    let inside = dir.path().join("in");
    std::fs::create_dir(inside.join(".backstop")).unwrap();
    std::fs::write(inside.join(".backstop/journal.db"), "events").unwrap();
    std::fs::write(inside.join("backstop.toml"), "[budgets]").unwrap();
    symlink(".backstop", inside.join("door")).unwrap();
    symlink("backstop.toml", inside.join("config")).unwrap();
    // One of them is not there yet: it must not be made either.
    let reserved = ["in/.backstop", "in/backstop.toml", "in/logs"].map(|path| dir.path().join(path));
    let workspace = workspace.reserving(&reserved);
    for path in
        [".backstop/journal.db", "door/journal.db", "sub/../door/journal.db", "backstop.toml", "config"]
    {
        let refused = read(&workspace, path).unwrap_err();
        assert!(matches!(refused, PathError::Reserved | PathError::Outside), "read {path}: {refused:?}");
        let refused = write(&workspace, path).unwrap_err();
        let expected = matches!(
            refused,
            PathError::Reserved | PathError::Outside | PathError::NotAFile("a symbolic link")
        );
        assert!(expected, "write {path}: {refused:?}");
    }
    assert_eq!(write(&workspace, "logs"), Err(PathError::Reserved));
    assert_eq!(write(&workspace, ".backstop/new/file"), Err(PathError::Reserved));
    let names: Vec<_> =
        workspace.entries(Path::new("")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a.txt", "config", "door", "sub"]);
    assert_eq!(workspace.entries(Path::new("door")), Err(PathError::Reserved));
    assert_eq!(read(&workspace, "a.txt").unwrap(), "a");
    assert!(write(&workspace, "backstop.toml.txt").is_ok(), "a name that only begins so is free");
    assert_eq!(std::fs::read_to_string(inside.join(".backstop/journal.db")).unwrap(), "events");
}

#[test]
fn nothing_is_written_where_git_would_run_it() {
    let (dir, workspace) = house();
    std::fs::create_dir_all(dir.path().join("in/sub/.git/hooks")).unwrap();
    symlink("sub/.git", dir.path().join("in/door")).unwrap();
    for path in ["sub/.git/hooks/pre-commit", "door/hooks/pre-commit", ".git", ".git/config"] {
        assert_eq!(write(&workspace, path), Err(PathError::Reserved), "{path}");
    }
    assert!(write(&workspace, "sub/.gitignore").is_ok());
}

#[test]
fn a_place_is_a_regular_file_with_one_name_and_its_real_path() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("data/.git")).unwrap();
    for path in ["data/x.db", "data/hard.db", "data/.git/x.db", "own.db"] {
        std::fs::write(root.join(path), "x").unwrap();
    }
    std::fs::hard_link(root.join("data/hard.db"), root.join("second.db")).unwrap();
    symlink("data", root.join("link")).unwrap();
    symlink("x.db", root.join("data/link.db")).unwrap();
    symlink("/dev/null", root.join("data/x.db-wal")).unwrap();
    let workspace = Workspace::open(root).unwrap().reserving(&[root.join("own.db")]);
    let place = |path: &str| workspace.place(Path::new(path)).map(|place| place.relative);
    for (path, want) in [
        ("data/x.db", Ok(PathBuf::from("data/x.db"))),
        ("link/x.db", Ok(PathBuf::from("data/x.db"))),
        ("data/link.db", Err(PathError::NotAFile("a symbolic link"))),
        ("second.db", Err(PathError::NotAFile("a hard link"))),
        ("data", Err(PathError::NotAFile("a directory"))),
        ("", Err(PathError::NotAFile("a directory"))),
        ("none", Err(PathError::NotFound)),
        ("own.db", Err(PathError::Reserved)),
        ("data/.git/x.db", Err(PathError::Reserved)),
        ("../x", Err(PathError::Outside)),
    ] {
        assert_eq!(place(path), want, "{path}");
    }
    let place = workspace.place(Path::new("data/x.db")).unwrap();
    assert_eq!(place.holds("-journal"), Ok(false));
    assert_eq!(place.holds("-wal"), Err(PathError::NotAFile("a symbolic link")));
}
