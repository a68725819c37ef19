//! One test for each way a frame can be bad: an error, never a panic or memory that the peer did not pay for.

use bytes::{BufMut, Bytes, BytesMut};
use raftmq_remoting::FrameError;
use raftmq_remoting::ext::MAX_EXT_FIELDS;
use raftmq_remoting::frame::{FrameReader, INITIAL_READ_BUFFER, MAX_FRAME_LENGTH, decode_frame};
use tokio::io::AsyncWriteExt;

async fn read(bytes: &[u8]) -> Result<Option<Bytes>, FrameError> {
    FrameReader::new(bytes).next().await
}

#[tokio::test]
async fn impossible_lengths() {
    assert!(matches!(
        read(&[0, 0, 0, 0]).await,
        Err(FrameError::Length(0))
    ));
    assert!(matches!(
        read(&[0, 0, 0, 3, 1, 2, 3]).await,
        Err(FrameError::Length(3))
    ));
    assert!(matches!(
        read(&[0xFF; 4]).await,
        Err(FrameError::Length(-1))
    ));
    let over = (MAX_FRAME_LENGTH as u32 + 1).to_be_bytes();
    assert!(matches!(read(&over).await, Err(FrameError::Length(_))));
    assert!(matches!(
        read(&[0x16, 3, 1, 2, 0]).await,
        Err(FrameError::Tls)
    ));
}

#[tokio::test]
async fn ends_between_and_inside_frames() {
    assert!(read(&[]).await.unwrap().is_none());
    assert!(matches!(
        read(&[0, 0]).await,
        Err(FrameError::UnexpectedEnd)
    ));
    assert!(matches!(
        read(&[0, 0, 0, 8, 0, 0, 0, 2]).await,
        Err(FrameError::UnexpectedEnd)
    ));
    assert_eq!(
        read(&[0, 0, 0, 4, 0, 0, 0, 0, 9]).await.unwrap().unwrap(),
        &[0u8; 4][..]
    );
}

#[tokio::test]
async fn a_promised_frame_costs_nothing_before_it_comes() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let mut reader = FrameReader::new(io);
    peer.write_all(&(MAX_FRAME_LENGTH as u32).to_be_bytes())
        .await
        .unwrap();
    peer.write_all(&[0; 1000]).await.unwrap();
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), reader.next()).await;
    assert!(waiting.is_err());
    assert!(
        reader.buffer_capacity() <= 2 * INITIAL_READ_BUFFER,
        "{}",
        reader.buffer_capacity()
    );
}

#[tokio::test]
async fn large_frames_come_whole_and_their_memory_goes() {
    let (mut peer, io) = tokio::io::duplex(1 << 16);
    let mut reader = FrameReader::new(io);
    let body: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
    let sent = body.clone();
    tokio::spawn(async move {
        for _ in 0..3 {
            peer.write_all(&(sent.len() as u32).to_be_bytes())
                .await
                .unwrap();
            peer.write_all(&sent).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    });
    for _ in 0..3 {
        assert!(reader.next().await.unwrap().unwrap() == body);
    }
    let idle = tokio::time::timeout(std::time::Duration::from_millis(20), reader.next()).await;
    assert!(idle.is_err());
    assert_eq!(reader.buffer_capacity(), 0);
}

/// A frame (without total length) of the given serialize type.
fn frame(serialize: u8, header: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(u32::from(serialize) << 24 | header.len() as u32);
    out.put_slice(header);
    out.freeze()
}

#[test]
fn header_longer_than_its_frame() {
    let mut bytes = BytesMut::from(&frame(0, b"{}")[..]);
    bytes[3] = 3;
    assert!(matches!(
        decode_frame(bytes.freeze()),
        Err(FrameError::HeaderLength {
            header: 3,
            frame: 2
        })
    ));
    assert!(matches!(
        decode_frame(Bytes::from_static(&[0, 0])),
        Err(FrameError::Truncated(_))
    ));
    assert!(matches!(
        decode_frame(frame(2, b"{}")),
        Err(FrameError::SerializeType(2))
    ));
}

#[test]
fn bad_json_headers() {
    for deep in ["[", "{\"a\":"] {
        let text = format!("{{\"x\":{}", deep.repeat(100_000));
        assert!(matches!(
            decode_frame(frame(0, text.as_bytes())),
            Err(FrameError::TooDeep)
        ));
        let text = format!("{{\"extFields\":{{\"x\":{}", deep.repeat(100_000));
        assert!(matches!(
            decode_frame(frame(0, text.as_bytes())),
            Err(FrameError::TooDeep)
        ));
    }
    // Read as Java does.
    let garbled = decode_frame(frame(0, b"{\"remark\":\"a\xFF\"}")).expect("taken");
    assert_eq!(garbled.remark.as_deref(), Some("a\u{fffd}"));
    let long = format!("{{\"remark\":\"{}\"}}", "x".repeat(1 << 20));
    assert!(matches!(
        decode_frame(frame(0, long.as_bytes())),
        Err(FrameError::HeaderTooLarge(_))
    ));
    for bad in [
        "",
        "{",
        "[]",
        "null",
        "{\"code\"}",
        "{\"code\":}",
        "{\"code\":1",
        "{\"code\":x}",
        "{\"code\":1.5}",
        "{\"code\":99999999999}",
        "{\"code\":1}x",
        "{\"code\":1 \"flag\":0}",
        "{,}",
        "{\"remark\":\"a",
        "{\"remark\":\"\\u12",
        "{\"remark\":\"\\u12G4\"}",
        "{\"remark\":\"\\q\"}",
        "{\"extFields\":[]}",
        "{\"extFields\":{\"a\"}}",
        "{\"extFields\":{1:2}}",
        "{\"a\":\"\\",
        "{\"a\":\"\\é",
    ] {
        assert!(
            matches!(
                decode_frame(frame(0, bad.as_bytes())),
                Err(FrameError::Json { .. })
            ),
            "{bad}"
        );
    }
    let many: Vec<String> = (0..=MAX_EXT_FIELDS)
        .map(|i| format!("\"k{i}\":\"\""))
        .collect();
    let text = format!("{{\"extFields\":{{{}}}}}", many.join(","));
    assert!(matches!(
        decode_frame(frame(0, text.as_bytes())),
        Err(FrameError::TooManyFields)
    ));
}

#[test]
fn sloppy_json_headers_are_read() {
    let text = r#" { "code" : "10", "unknown":{"a":[1,{"b":"}"}]}, "language":3, "version":null, "flag":2,
        "extFields":{"n":5,"b":true,"f":-1.5e3,"z":null,"s":"x\u00e9\ud83d\ude00\/\"","n":"6","o":{"p":[1]},"l":"\ud83d"},
        "remark":null, "serializeTypeCurrentRPC":"JSON" } "#;
    let cmd = decode_frame(frame(0, text.as_bytes())).unwrap();
    assert_eq!(
        (cmd.code, cmd.version, cmd.flag, cmd.remark),
        (10, 0, 2, None)
    );
    assert_eq!(cmd.language.name(), "PYTHON");
    let fields: Vec<_> = cmd.ext.iter().collect();
    assert_eq!(
        fields,
        [
            ("n", "6"),
            ("b", "true"),
            ("f", "-1.5e3"),
            ("s", "xé😀/\""),
            ("o", "{\"p\":[1]}"),
            ("l", "\u{FFFD}"),
        ]
    );
    assert_eq!(
        decode_frame(frame(0, b"{\"extFields\":null,\"language\":\"KLINGON\"}"))
            .unwrap()
            .language
            .name(),
        "OTHER"
    );
}

/// A binary header with the given remark length, fields length, and raw fields.
fn binary(remark_length: i32, fields_length: i32, fields: &[u8]) -> Bytes {
    let mut h = BytesMut::new();
    h.put_i16(3442);
    h.put_u8(99);
    h.put_i16(479);
    h.put_i32(7);
    h.put_i32(0);
    h.put_i32(remark_length);
    h.put_i32(fields_length);
    h.put_slice(fields);
    frame(1, &h)
}

#[test]
fn bad_binary_headers() {
    let whole = binary(0, 0, b"");
    assert_eq!(decode_frame(whole.clone()).unwrap().code, 200_050);
    assert_eq!(
        decode_frame(whole.clone()).unwrap().language.name(),
        "OTHER"
    );
    for n in 4..whole.len() {
        assert!(
            matches!(
                decode_frame(frame(1, &whole[4..n])),
                Err(FrameError::Truncated(_))
            ),
            "cut at {n}"
        );
    }
    assert!(matches!(
        decode_frame(binary(-1, 0, b"")),
        Err(FrameError::FieldLength { .. })
    ));
    assert!(matches!(
        decode_frame(binary(i32::MAX, 0, b"")),
        Err(FrameError::Truncated(_))
    ));
    assert!(matches!(
        decode_frame(binary(0, -2, b"")),
        Err(FrameError::FieldLength { .. })
    ));
    assert!(matches!(
        decode_frame(binary(0, 5, b"abcd")),
        Err(FrameError::Truncated(_))
    ));
    let lies: [&[u8]; 6] = [
        b"\x00",
        b"\x00\x05k",
        b"\xFF\xFFk\x00\x00\x00\x01v",
        b"\x00\x01k\x00\x00",
        b"\x00\x01k\x00\x00\x00\x09v",
        b"\x00\x01k\xFF\xFF\xFF\xFFv",
    ];
    for lie in lies {
        assert!(
            decode_frame(binary(0, lie.len() as i32, lie)).is_err(),
            "{lie:?}"
        );
    }
    // Text that is no UTF-8 is garbled, and the connection goes on, as in Java.
    let not_utf8 = b"\x00\x01k\x00\x00\x00\x03\xC4\xE3!";
    let garbled = decode_frame(binary(0, not_utf8.len() as i32, not_utf8)).expect("taken");
    assert_eq!(garbled.ext.get("k"), Some("\u{fffd}\u{fffd}!"));
    // Zero lengths are nulls, which count as absent.
    let nulls = b"\x00\x01k\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01v";
    assert!(
        decode_frame(binary(0, nulls.len() as i32, nulls))
            .unwrap()
            .ext
            .is_empty()
    );
}
