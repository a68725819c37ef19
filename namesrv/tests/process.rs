//! `mqnamesrv` as a process: its arguments, its start line, its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

fn mqnamesrv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqnamesrv"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn conf(dir: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
    let file = dir.path().join("namesrv.conf");
    let kv = dir.path().join("kv.json");
    std::fs::write(
        &file,
        format!(
            "bindAddress=127.0.0.1\nlistenPort=0\nkvConfigPath={}\n{text}",
            kv.display()
        ),
    )
    .unwrap();
    file
}

#[test]
fn it_says_when_it_listens_and_ends_on_signals() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = mqnamesrv()
            .arg("-c")
            .arg(conf(&dir, ""))
            .args(["-n", "ignored:1"])
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(
            line.starts_with(
                "The Name Server boot success. serializeType=JSON, address 127.0.0.1:"
            ),
            "{line}"
        );
        let addr = line.trim().rsplit(' ').next().unwrap();
        std::net::TcpStream::connect(addr).unwrap();
        Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap();
        assert!(child.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn it_prints_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let out = mqnamesrv()
        .arg("-p")
        .arg("-c")
        .arg(conf(&dir, "orderMessageEnable=true\n"))
        .output()
        .unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("listenPort=0\n") && text.contains("orderMessageEnable=true\n"),
        "{text}"
    );
}

#[test]
fn it_refuses_what_it_cannot_use_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = mqnamesrv()
        .arg("-c")
        .arg(conf(&dir, "listenPort=99999\n"))
        .spawn()
        .unwrap();
    assert!(!child.wait().unwrap().success());
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.contains("listenPort=99999: a number from 0 to 65535 is wanted"),
        "{text}"
    );

    let out = mqnamesrv()
        .args(["-p", "-c"])
        .arg(conf(&dir, "lissenPort=1\n"))
        .output()
        .unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("lissenPort"), "{text}");

    let out = mqnamesrv()
        .arg("-c")
        .arg(dir.path().join("none"))
        .output()
        .unwrap();
    assert!(!out.status.success() && String::from_utf8(out.stderr).unwrap().contains("none"));
}
