//! Right values and wrong ones. The sets are finite, so that a run of any length makes a bounded number of topics, groups and
//! clients: memory that still grows is somebody's mistake.

use super::forms::Kind;
use crate::random::Random;

/// What a connection has heard from answers: places and handles that are there.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    positions: Vec<i64>,
    handles: Vec<Vec<u8>>,
    next: usize,
}

/// Kept of each.
const KEPT: usize = 64;

impl Learned {
    /// A message was stored here.
    pub fn position(&mut self, position: i64) {
        keep(&mut self.positions, self.next, position);
        self.next += 1;
    }

    /// A timer can be taken back with this.
    pub fn handle(&mut self, handle: &str) {
        keep(&mut self.handles, self.next, handle.as_bytes().to_vec());
        self.next += 1;
    }
}

fn keep<T>(all: &mut Vec<T>, next: usize, one: T) {
    match all.len() < KEPT {
        true => all.push(one),
        false => all[next % KEPT] = one,
    }
}

/// Topics, and groups, that requests are about.
const NAMES: usize = 8;
/// The time that right requests are sent at; the present has no place in what follows from a seed.
const NOW_MS: i64 = 1_790_000_000_000;

fn topic(random: &mut Random) -> String {
    match random.below(20) {
        0 => format!("%RETRY%enemy-group-{}", random.below(NAMES)),
        1 => format!("%DLQ%enemy-group-{}", random.below(NAMES)),
        _ => format!("enemy-{}", random.below(NAMES)),
    }
}

fn group(random: &mut Random) -> String {
    format!("enemy-group-{}", random.below(NAMES))
}

/// A unique id or key, the same again and again.
pub fn key(random: &mut Random) -> String {
    format!("enemy-key-{}", random.below(500))
}

const PROPERTIES: [(&str, &[&str]); 16] = [
    ("TAGS", &["a", "b", "标签", ""]),
    ("KEYS", &["k1", "k1 k2", "  ", "k"]),
    (
        "DELAY",
        &["1", "2", "18", "19", "0", "-1", "x", "99999999999"],
    ),
    (
        "TIMER_DELAY_SEC",
        &["1", "2", "-5", "259201", "9223372036854775807"],
    ),
    (
        "TIMER_DELAY_MS",
        &["1500", "0", "-9223372036854775808", "z"],
    ),
    (
        "TIMER_DELIVER_MS",
        &["1", "1790000000000", "9223372036854775807", ""],
    ),
    (
        "TIMER_DEL_UNIQKEY",
        &["enemy-key-1", "enemy-0_enemy-key-2", "\u{3}"],
    ),
    ("TIMER_OUT_MS", &["1", "9223372036854775807", "-1", "abc"]),
    ("TRAN_MSG", &["true", "false", "1"]),
    ("PGROUP", &["enemy-group-0", "", "a\0b"]),
    ("WAIT", &["true", "false", "x"]),
    (
        "CHECK_IMMUNITY_TIME_IN_SECONDS",
        &["1", "-1", "9223372036854775807"],
    ),
    ("REAL_TOPIC", &["enemy-1", "../x", ""]),
    ("REAL_QID", &["0", "-1", "70000", "x"]),
    ("RETRY_TOPIC", &["enemy-2", "%RETRY%enemy-group-1"]),
    (
        "INNER_MULTI_DISPATCH",
        &["%LMQ%a,%LMQ%b", "enemy-1,enemy-2"],
    ),
];

/// A message's properties: mostly an id and a few that mean something.
pub fn properties(random: &mut Random) -> Vec<u8> {
    let mut out = format!("UNIQ_KEY\u{1}{}\u{2}", key(random)).into_bytes();
    for _ in 0..random.below(4) {
        if let Some((name, values)) = random.choose(&PROPERTIES) {
            let value = random.choose(values).copied().unwrap_or_default();
            out.extend_from_slice(format!("{name}\u{1}{value}\u{2}").as_bytes());
        }
    }
    if random.chance(0.02) {
        let filler = [
            100, 32_600, 32_700, 32_740, 32_766, 32_767, 32_768, 65_535, 70_000,
        ];
        let wanted: usize = random.choose(&filler).copied().unwrap_or(100);
        let more = wanted.saturating_sub(out.len() + 3);
        out.extend_from_slice(b"p\x01");
        out.resize(out.len() + more, b'x');
        out.push(2);
    }
    if random.chance(0.02) {
        let at = random.below(out.len());
        out[at] = random.draw() as u8;
    }
    out
}

/// What would be right in a field.
pub fn right(kind: Kind, random: &mut Random, learned: &Learned) -> Vec<u8> {
    let number = |n: i64| n.to_string();
    match kind {
        Kind::Topic => topic(random),
        Kind::Group => group(random),
        Kind::Client => format!("127.0.0.1@enemy-{}", random.below(64)),
        Kind::Queue => number(random.below(4) as i64),
        Kind::Offset => number(random.below(200) as i64),
        Kind::Position => {
            let known = random.choose(&learned.positions).copied();
            number(known.unwrap_or(random.below(100_000) as i64))
        }
        Kind::Count => number(1 + random.below(32) as i64),
        Kind::Flag => number(random.below(3) as i64),
        // Plain, compressed, prepared, committed, rolled back.
        Kind::SysFlag => number([0, 0, 0, 0, 1, 4, 8, 12][random.below(8)]),
        Kind::PullFlag => number([0, 2, 4, 5, 6, 7, 15][random.below(7)]),
        Kind::Time => number(NOW_MS - random.below(1_000_000) as i64),
        Kind::Wait => number(random.below(300) as i64),
        Kind::Bool => ["true", "false"][random.below(2)].to_owned(),
        Kind::Text => key(random),
        Kind::Properties => return properties(random),
        Kind::Key => key(random),
        Kind::Level => number(random.below(4) as i64 - 1),
        Kind::Perm => number([6, 6, 6, 4, 2, 0][random.below(6)]),
        Kind::FilterType => ["SINGLE_TAG", "MULTI_TAG"][random.below(2)].to_owned(),
        Kind::Expression => random
            .choose(&EXPRESSIONS)
            .copied()
            .unwrap_or("*")
            .to_owned(),
        Kind::ExpressionType => ["TAG", "SQL92"][random.below(2)].to_owned(),
        Kind::Attributes => random.choose(&ATTRIBUTES).copied().unwrap_or("").to_owned(),
        Kind::Verdict => number([0, 8, 8, 12][random.below(4)]),
        Kind::Replica => format!("n{}", random.below(3)),
        Kind::Address => format!("127.0.0.1:{}", 9 + random.below(4)),
        Kind::Broker => format!("enemy-broker-{}", random.below(4)),
        Kind::Cluster => format!("enemy-cluster-{}", random.below(2)),
        Kind::Handle => {
            let known = random.choose(&learned.handles).cloned();
            return known.unwrap_or_else(|| b"djEgYnJva2VyLWEgMSAyIDM=".to_vec());
        }
        Kind::Version => number(random.below(5) as i64),
        Kind::Boundary => ["lower", "upper", "LOWER"][random.below(3)].to_owned(),
    }
    .into_bytes()
}

const EXPRESSIONS: [&str; 12] = [
    "*",
    "a",
    "a || b",
    "标签",
    "TAGS = 'a'",
    "a > 5 AND (b BETWEEN 1 AND 9223372036854775807)",
    "NOT NOT NOT a IS NULL",
    "a IN ('x','y') OR b = 1.7976931348623157e309",
    "x LIKE '%' ESCAPE '",
    "((((((((((((((((((((((a",
    "'",
    "a = -9223372036854775808 - 1",
];

const ATTRIBUTES: [&str; 8] = [
    "",
    "+message.type=NORMAL",
    "+message.type=FIFO",
    "+message.type=DELAY",
    "-message.type",
    "+queue.type=BatchCQ",
    "+a=b=c,,+=,-",
    "+cleanup.policy=COMPACTION,+message.type=\0",
];

/// Texts that are right for nobody, or only just.
fn odd_text(random: &mut Random) -> Vec<u8> {
    const TEXTS: [&str; 44] = [
        "",
        " ",
        "\0",
        "a\0b",
        "\0\0\0",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "\u{1}x\u{2}",
        "\u{2}",
        "a%b",
        "%RETRY%",
        "%DLQ%",
        "%RETRY%%RETRY%a",
        "%LMQ%x",
        "SCHEDULE_TOPIC_XXXX",
        "TBW102",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "rmq_sys_wheel_timer",
        "RMQ_SYS_TRACE_TOPIC",
        "CID_RMQ_SYS_TRANS",
        "../../etc/passwd",
        "..",
        ".",
        "a/b",
        "/",
        "\\",
        "主题-тема-θέμα",
        "\u{202e}gpj",
        "😀",
        "null",
        "{}",
        "[]",
        "%",
        "@",
        "a@b",
        "a;b",
        "a,b",
        "a=b",
        "true",
        "-",
        "{\"a\":",
        "e\u{301}",
    ];
    const LENGTHS: [usize; 16] = [
        2, 64, 120, 127, 128, 240, 247, 248, 249, 252, 255, 256, 300, 1_025, 32_768, 70_000,
    ];
    match random.below(10) {
        0..=5 => random.choose(&TEXTS).copied().unwrap_or("").into(),
        6 | 7 => vec![b'n'; random.choose(&LENGTHS).copied().unwrap_or(1)],
        8 => {
            // Long names that are told from each other by their end.
            let mut name = vec![b'n'; random.choose(&LENGTHS[..11]).copied().unwrap_or(1)];
            name.push(b'0' + random.below(3) as u8);
            name
        }
        _ => match random.below(3) {
            0 => vec![0xff, 0xfe, b'a'],
            1 => vec![0xc3],
            _ => vec![0xed, 0xa0, 0x80],
        },
    }
}

fn odd_number(random: &mut Random) -> Vec<u8> {
    const NUMBERS: [&str; 36] = [
        "",
        "-1",
        "0",
        "-0",
        "1",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "65535",
        "65536",
        "32767",
        "32768",
        "255",
        "256",
        "1e9",
        "0x10",
        "NaN",
        "Infinity",
        " 1",
        "1 ",
        "+1",
        "1.5",
        "१",
        "null",
        "true",
        "99999999999999999999999999",
        "a",
        "1,1",
        "1\0",
        "--1",
        "268435456",
    ];
    match random.below(20) {
        0 => vec![b'1'; 1_000],
        _ => random.choose(&NUMBERS).copied().unwrap_or("").into(),
    }
}

/// What is wrong in a field, or only just right.
pub fn odd(kind: Kind, random: &mut Random) -> Vec<u8> {
    if random.chance(0.1) {
        return odd_text(random);
    }
    match kind {
        Kind::Queue
        | Kind::Offset
        | Kind::Position
        | Kind::Count
        | Kind::Flag
        | Kind::SysFlag
        | Kind::PullFlag
        | Kind::Time
        | Kind::Wait
        | Kind::Bool
        | Kind::Level
        | Kind::Perm
        | Kind::Verdict
        | Kind::Version => odd_number(random),
        Kind::Properties => match random.below(5) {
            0 => vec![1; 40_000],
            1 => "a\u{1}b\u{2}".repeat(8_000).into_bytes(),
            2 => vec![b'x'; 32_768],
            _ => odd_text(random),
        },
        Kind::Expression => match random.below(4) {
            0 => "(".repeat(20_000).into_bytes(),
            1 => "NOT ".repeat(20_000).into_bytes(),
            2 => "a || ".repeat(20_000).into_bytes(),
            _ => odd_text(random),
        },
        _ => odd_text(random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_used_and_bounded() {
        let mut learned = Learned::default();
        for n in 0..1_000 {
            learned.position(1_000_000 + n);
            learned.handle("handle");
        }
        assert_eq!(
            (learned.positions.len(), learned.handles.len()),
            (KEPT, KEPT)
        );
        let mut random = Random::new(1);
        let known = right(Kind::Position, &mut random, &learned);
        assert!(known.starts_with(b"1000"));
        assert_eq!(right(Kind::Handle, &mut random, &learned), b"handle");
    }
}
