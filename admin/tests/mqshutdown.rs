//! `bin/mqshutdown`, with a `pgrep` that finds the processes of this test alone.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bin/mqshutdown");

/// Exit status and stdout of the script, when `found` is what runs under the name mqbroker.
fn mqshutdown(test: &str, args: &[&str], found: &[&Child]) -> (i32, String) {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&dir).unwrap();
    let pids: Vec<_> = found.iter().map(|c| c.id().to_string()).collect();
    let pgrep = dir.join("pgrep");
    let script = format!(
        "#!/bin/sh\n[ \"$4\" != mqbroker ] || echo {}\n",
        pids.join(" ")
    );
    std::fs::write(&pgrep, script).unwrap();
    std::fs::set_permissions(&pgrep, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let out = Command::new(SCRIPT)
        .args(args)
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    (out.status.code().unwrap(), text)
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

#[test]
fn all_are_asked_and_waited_for() {
    let mut two = [sleeper(), sleeper()];
    let pids = format!("{} {}", two[0].id(), two[1].id());
    let (code, text) = mqshutdown("asked", &["broker", "-w"], &[&two[0], &two[1]]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((code, lines.len()), (0, 4), "{text}");
    assert_eq!(lines[0], format!("The mqbroker({pids}) is running..."));
    assert_eq!(
        lines[1],
        format!("Send shutdown request to mqbroker({pids}) OK")
    );
    assert_eq!(lines[3], format!("The mqbroker({pids}) has ended."));
    // They ended, and nobody has waited for them yet: nothing runs any more.
    let (code, text) = mqshutdown("asked", &["broker"], &[&two[0], &two[1]]);
    assert_eq!((code, &text[..]), (255, "No mqbroker running.\n"));
    for child in &mut two {
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    }
}

#[test]
fn only_what_is_named_is_asked() {
    let mut broker = sleeper();
    let (code, text) = mqshutdown("named", &["namesrv"], &[&broker]);
    assert_eq!((code, &text[..]), (255, "No mqnamesrv running.\n"));
    for wrong in [
        &[][..],
        &["proxy"],
        &["broker", "-x"],
        &["broker", "-w", "-w"],
    ] {
        assert_eq!(mqshutdown("named", wrong, &[&broker]).0, 2, "{wrong:?}");
    }
    assert!(broker.try_wait().unwrap().is_none());
    broker.kill().unwrap();
    broker.wait().unwrap();
}
