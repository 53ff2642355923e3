//! What `skiff` says, and ends with, when it cannot do what it was asked: what happened, and what to do about it.
//!
//! Programs are hidden by a path that leads to all but them. Nothing is installed and nothing fetched: apt is given a
//! system of its own, an empty folder, and mirrors on the loopback interface of a network namespace.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab_wire::Cable;
use nix::unistd::geteuid;
use skiff_tests::command::skiff;
use skiff_tests::folder::Folder;
use skiff_tests::namespace::{in_namespace, ip};

const NOBODY: u32 = 65534;

/// A path that leads to every program of this machine but these.
fn path_without(within: &Folder, hidden: &[&str]) -> PathBuf {
    let folder = within.path().join("programs");
    fs::create_dir(&folder).unwrap();
    let mut seen = BTreeSet::new();
    let path = env::var_os("PATH").unwrap();
    let entries = env::split_paths(&path).filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if !hidden.iter().any(|hidden| name == *hidden) && seen.insert(name.clone()) {
            symlink(entry.path(), folder.join(name)).unwrap();
        }
    }
    folder
}

/// A configuration of apt in which a folder is the whole system, with one mirror.
fn apt_configuration(within: &Folder, mirror: &str) -> PathBuf {
    let folder = within.path().join("apt");
    for part in ["lists/partial", "cache/archives/partial", "etc", "dpkg"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::write(folder.join("etc/sources.list"), format!("deb [trusted=yes] {mirror} stable main\n")).unwrap();
    fs::write(folder.join("dpkg/status"), "").unwrap();
    let text = format!(
        "Dir::State \"{0}\";\nDir::State::lists \"{0}/lists\";\nDir::State::status \"{0}/dpkg/status\";\n\
         Dir::Cache \"{0}/cache\";\nDir::Etc \"{0}/etc\";\nDir::Log \"{0}\";\nAPT::Sandbox::User \"root\";\n",
        folder.display()
    );
    let file = folder.join("apt.conf");
    fs::write(&file, text).unwrap();
    file
}

/// Runs it and gives its exit status and what it complained about.
fn ends(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Checks that `skiff` with these words ends with this status and says all of that.
#[track_caller]
fn refused(command: &mut Command, status: i32, said: &[&str]) {
    let (code, text) = ends(command);
    assert_eq!(code, Some(status), "{command:?}: {text}");
    for said in said {
        assert!(text.contains(said), "{command:?}: no `{said}` in: {text}");
    }
}

/// `skiff` with these words.
fn skiff_with(words: &str) -> Command {
    let mut command = skiff();
    command.args(words.split_ascii_whitespace());
    command
}

#[test]
fn every_help_names_every_exit_status() {
    for words in ["", "run", "image", "bench", "dongle", "oracle"] {
        let output = skiff_with(words).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for status in
            ["\n  0  done", "\n  1  pings", "\n  2  the arg", "\n  3  nothing", "\n  4  the guest got"]
        {
            assert!(output.status.success() && text.contains(status), "{words}: {text}");
        }
    }
}

#[test]
fn wrong_arguments_are_refused_with_what_would_be_right() {
    for (words, said) in [
        ("run --size 65508", "65507"),
        ("run --nic ne2000", "possible values: virtio"),
        ("run --tap a --nic virtio --nic virtio", "2 network cards need 2 taps"),
        ("run --drivers virtio", "add --nic virtio"),
        ("bench --drivers virtio --nic rtl8153", "add --nic virtio"),
        ("run --memory 7", "8.."),
        ("run --interval 3parsecs", "not one of us, ms, s, m"),
        ("run --wait soon", "--wait"),
        ("run --flood --interval 1s", "cannot be used with"),
        ("run --json --interactive", "cannot be used with"),
        ("run --interactive --count 5", "cannot be used with"),
        ("run --tap tap0 --flood", "cannot be used with"),
        ("run --for 5s", "--interactive"),
        ("run --tap a-name-of-sixteen", "no interface can be called"),
        ("run --usb-host 1:2:3", "VENDOR:PRODUCT"),
        ("run --usb-controller 1", "PCI address"),
        ("bench --count 0", "1.."),
        ("image", "--out"),
        ("frobnicate", "unrecognized subcommand"),
    ] {
        refused(&mut skiff_with(words), 2, &[said]);
    }
}

#[test]
fn a_qemu_named_by_the_environment_that_does_not_run_is_named() {
    for path in ["/nonexistent/qemu", "/bin/true"] {
        let said = format!("SKIFF_QEMU names {path}, which is no QEMU that runs");
        refused(skiff_with("run").env("SKIFF_QEMU", path), 3, &[&said]);
        refused(skiff_with("bench").env("SKIFF_QEMU", path), 3, &[&said]);
    }
}

#[test]
fn an_image_that_cannot_be_written_is_named_and_so_is_a_command_line_that_does_not_fit() {
    refused(
        &mut skiff_with("image --out /nonexistent/skiff.elf"),
        3,
        &["cannot write /nonexistent/skiff.elf"],
    );
    let folder = Folder::new("refusals");
    fs::create_dir(folder.path().join("folder")).unwrap();
    refused(skiff_with("image --out").arg(folder.path().join("folder")), 3, &["cannot write ", "folder"]);
    assert!(!folder.path().join("folder.debug").exists());
    let out = folder.path().join("skiff.elf");
    let mut command = skiff_with("image");
    command.arg("--out").arg(&out).args(["--cmdline", &"x".repeat(5000)]);
    refused(&mut command, 2, &["--cmdline has 5000 bytes; an image holds "]);
    assert!(!out.exists());
}

#[test]
fn a_guest_that_is_not_ready_in_time_ends_with_a_status_of_its_own() {
    refused(&mut skiff_with("run --nic virtio --wait 1us"), 4, &["the guest got no address: after 1"]);
}

#[test]
fn a_user_who_may_not_install_qemu_is_told_the_command() {
    let folder = Folder::new("refusals");
    let path = path_without(&folder, &["qemu-system-x86_64"]);
    if !path.join("apt-get").exists() {
        return;
    }
    let said = [
        "qemu-system-x86_64 is missing",
        "may not install it; as root: apt-get install",
        "qemu-system-x86\n",
    ];
    refused(as_nobody(&folder, "run").env("PATH", &path), 3, &said);
}

#[test]
fn a_system_without_apt_is_told_what_is_missing() {
    let folder = Folder::new("refusals");
    let path = path_without(&folder, &["qemu-system-x86_64", "apt-get"]);
    let said = ["qemu-system-x86_64 is missing", "no apt", "what Debian calls qemu-system-x86\n"];
    refused(skiff_with("run").env("PATH", &path), 3, &said);
}

#[test]
fn a_mirror_that_refuses_or_never_answers_ends_the_installation_with_a_clear_line() {
    in_namespace("mirrors", || {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        for mirror in ["http://127.0.0.1:1/debian".to_owned(), format!("http://{address}/debian")] {
            let folder = Folder::new("refusals");
            let path = path_without(&folder, &["qemu-system-x86_64"]);
            if !path.join("apt-get").exists() {
                return;
            }
            let mut command = skiff_with("run");
            command.env("PATH", &path).env("APT_CONFIG", apt_configuration(&folder, &mirror));
            // It is tried, and ends by itself.
            let said = [
                "qemu-system-x86_64 is missing: installing qemu-system-x86\n",
                "updating the package lists\n",
                "apt could not install it (E: Failed to fetch http://127.0.0.1",
                "as root: apt-get install",
            ];
            refused(&mut command, 3, &said);
        }
    });
}

#[test]
fn a_program_that_makes_taps_is_installed_when_it_is_missing() {
    in_namespace("ip is missing", || {
        let folder = Folder::new("refusals");
        let path = path_without(&folder, &["ip"]);
        if !path.join("apt-get").exists() {
            return;
        }
        let mut command = skiff_with("run --tap made0");
        command.env("PATH", &path).env("APT_CONFIG", apt_configuration(&folder, "http://127.0.0.1:1/debian"));
        refused(&mut command, 3, &["ip is missing: installing iproute2", "as root: apt-get install"]);
    });
}

#[test]
fn cargo_is_named_when_it_is_missing() {
    let folder = Folder::new("refusals");
    let path = path_without(&folder, &["cargo"]);
    let said = ["cargo is missing: the image is built by it; install Rust"];
    refused(skiff_with("image --out /dev/null").env("PATH", &path).env_remove("CARGO"), 3, &said);
}

#[test]
fn a_socket_that_somebody_listens_at_is_left_alone_and_named() {
    let folder = Folder::new("refusals");
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let said = ["cannot listen at", "somebody listens there"];
    refused(skiff_with("dongle --listen").arg(&socket), 3, &said);
}

#[test]
fn setpriv_is_named_when_it_is_missing() {
    let folder = Folder::new("refusals");
    let path = path_without(&folder, &["setpriv"]);
    let said = ["setpriv is missing: install it (it is part of util-linux)"];
    refused(skiff_with("run --nic virtio").env("PATH", &path), 3, &said);
}

#[test]
fn a_tap_that_somebody_has_is_named() {
    in_namespace("busy tap", || {
        ip("tuntap add dev tap0 mode tap");
        ip("link set tap0 up");
        let _held = Cable::tap("tap0").unwrap();
        let said = ["cannot attach to the tap tap0", "another program has it"];
        for words in ["run --nic virtio --tap tap0", "run --tap tap0"] {
            refused(&mut skiff_with(words), 3, &said);
        }
        let folder = Folder::new("refusals");
        let mut command = skiff_with("dongle --tap tap0 --listen");
        refused(command.arg(folder.path().join("socket")), 3, &said);
    });
}

#[test]
fn what_is_no_tap_and_what_is_another_users_is_named() {
    in_namespace("no tap", || {
        refused(&mut skiff_with("run --tap lo"), 3, &["cannot attach to the tap lo (it is no tap"]);
        ip("tuntap add dev tap0 mode tap user root");
        let folder = Folder::new("refusals");
        refused(&mut as_nobody(&folder, "run --tap tap0"), 3, &["tap0 (it belongs to somebody else"]);
        refused(
            &mut as_nobody(&folder, "run --tap tap1"),
            2,
            &["there is no tap tap1", "as root:\nip tuntap add tap1"],
        );
        let said = ["cannot attach to the tap tap1 (there is none, and this user may not make one"];
        refused(&mut as_nobody(&folder, "dongle --tap tap1 --listen socket"), 3, &said);
    });
}

#[test]
fn taps_of_several_cards_have_to_exist() {
    in_namespace("several taps", || {
        ip("tuntap add dev tap0 mode tap");
        let mut command = skiff_with("run --nic virtio --nic virtio --tap tap0 --tap tap1");
        refused(&mut command, 2, &["there is no tap tap1, and for several cards none is made; as root:\n"]);
    });
}

#[test]
fn a_tap_that_cannot_be_made_ends_at_once_with_the_reason() {
    in_namespace("impossible tap", || {
        let said = ["QEMU could not start the guest", "could not configure /dev/net/tun (a/b)"];
        refused(&mut skiff_with("run --nic virtio --tap a/b"), 3, &said);
    });
}

#[test]
fn what_qemu_says_when_it_cannot_start_is_told() {
    refused(&mut skiff_with("run --nic virtio --memory 4000000000"), 3, &["QEMU could not start the guest"]);
}

#[test]
fn a_user_can_use_a_tap_that_was_made_for_him_and_is_told_when_it_is_down() {
    in_namespace("own tap", || {
        ip("tuntap add dev tap0 mode tap user nobody");
        let folder = Folder::new("refusals");
        let path = path_without(&folder, &["qemu-system-x86_64"]);
        // As far as a user without a compiler gets.
        let said = ["the tap tap0 is down; as root: ip link set tap0 up", "qemu-system-x86_64 is missing"];
        refused(as_nobody(&folder, "run --tap tap0").env("PATH", &path), 3, &said);
        ip("link set tap0 up");
        let (_, text) = ends(as_nobody(&folder, "run --tap tap0").env("PATH", &path));
        assert!(!text.contains("is down") && text.contains("qemu-system-x86_64 is missing"), "{text}");
    });
}

/// `skiff` run by a user without any rights; by this one if it is no root.
fn as_nobody(folder: &Folder, words: &str) -> Command {
    let program = PathBuf::from(skiff().get_program());
    if !geteuid().is_root() {
        return skiff_with(words);
    }
    // The workspace may be closed to others. Copied by a process of its own: a program that a child of another test's
    // inherits open for writing cannot be run.
    let copy = folder.path().join("skiff");
    if !copy.exists() {
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
    }
    let mut command = Command::new(Path::new(&copy));
    command.args(words.split_ascii_whitespace()).uid(NOBODY).gid(NOBODY).current_dir(folder.path());
    command
}
