//! What is read as what. The bytes of version 0 are in `tests/commands.rs`.

use super::*;

fn read(text: &str) -> Reading {
    Command::read(text.as_bytes())
}

#[test]
fn a_newer_command_is_told_from_bytes_that_mean_nothing() {
    let newer = [
        r#"{"Pop":{"group":"g"}}"#,
        r#"{"TrimTo":{"position":7,"why":"age"}}"#,
        r#"{"PutTopic":{"config":{"topicName":"t","newField":1},"now_ms":1}}"#,
        r#"{"PutTopic":{"config":{"topicName":"t","topicFilterType":"NEW"},"now_ms":1}}"#,
        r#"{"PutGroup":{"config":{"groupName":"g","groupRetryPolicy":{"type":"NEW"}},"now_ms":1}}"#,
        r#"{"CommitOffsets":{"offsets":[{"g":"g","t":"t","q":0,"o":1,"x":0}]}}"#,
        "\u{1}binary",
    ];
    for text in newer {
        assert!(
            matches!(read(text), Reading::Newer(_)),
            "{text:?}: {:?}",
            read(text)
        );
    }
    let nothing = [
        "",
        "{}",
        "{\"\":{}}",
        "[]",
        "\"TrimTo\"",
        "\0",
        "{\"TrimTo\"",
        r#"{"TrimTo":{}}"#,
        r#"{"TrimTo":{"position":-1}}"#,
        r#"{"TrimTo":{"position":1}} "#,
        r#"{"TrimTo":{"position":1},"TimerDone":{"keys":[]}}"#,
        r#"{"TimerDone":{"keys":[{"at":"x","p":1}]}}"#,
        r#"{ "TrimTo":{"position":1}}"#,
    ];
    for text in nothing {
        // Blanks behind the last brace are what a JSON reader allows, and mean the command.
        let allowed = text.ends_with(' ');
        let unreadable = matches!(read(text), Reading::Unreadable(_));
        assert_eq!(unreadable, !allowed, "{text:?}: {:?}", read(text));
    }
}

#[test]
fn only_a_whole_deletion_deletes() {
    let delete = Command::DeleteTopic {
        topic: "t".to_owned(),
        now_ms: 1,
    };
    assert_eq!(
        Command::deleted_topic(&delete.encode()).as_deref(),
        Some("t")
    );
    let others = [
        &br#"{"DeleteTopic":{"topic":"t"}}"#[..],
        br#"{"DeleteTopicSoon":{"topic":"t","now_ms":1}}"#,
        br#"{"DeleteTopic":{"topic":"t","now_ms":1,"keep":true}}"#,
    ];
    for bytes in others {
        assert_eq!(Command::deleted_topic(bytes), None);
    }
}

#[test]
fn what_version_1_added_is_frozen() {
    let raise = Command::SetVersion { version: 1 };
    let bytes = r#"{"SetVersion":{"version":1}}"#;
    assert_eq!(String::from_utf8_lossy(&raise.encode()), bytes);
    assert_eq!(read(bytes), Reading::Known(raise));
}
