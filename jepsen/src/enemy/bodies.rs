//! Bodies, right and wrong.

use super::forms::Content;
use super::forms::Kind;
use super::values::{Learned, key, odd, properties, right};
use crate::random::Random;

/// Settings that requests change, each with values that are right; what was changed is taken back at the run's end.
const SETTINGS: [(&str, &[&str]); 14] = [
    ("autoCreateTopicEnable", &["true", "false"]),
    ("autoCreateSubscriptionGroup", &["true", "false"]),
    ("brokerPermission", &["6", "4", "2"]),
    ("maxMessageSize", &["65536", "4194304"]),
    ("fileReservedTime", &["0", "72"]),
    ("deleteWhen", &["04", "00;01;02"]),
    ("transactionCheckInterval", &["1000", "30000"]),
    ("transactionTimeOut", &["1000", "6000"]),
    ("transactionCheckMax", &["1", "15"]),
    ("useServerSideResetOffset", &["true", "false"]),
    ("longPollingEnable", &["true", "false"]),
    ("enableMixedMessageType", &["true", "false"]),
    ("timerMaxDelaySec", &["60", "259200"]),
    ("enablePropertyFilter", &["true", "false"]),
];

/// Takes back what [`Content::Settings`] has changed.
pub fn restore() -> String {
    SETTINGS
        .iter()
        .map(|(key, _)| format!("{key}=\n"))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    serde_json::Value::from(String::from_utf8_lossy(bytes).into_owned()).to_string()
}

/// A part of a body: right, or now and then not.
fn part(kind: Kind, random: &mut Random, wrong: bool) -> String {
    let bytes = match wrong && random.chance(0.3) {
        true => odd(kind, random),
        false => right(kind, random, &Learned::default()),
    };
    text(&bytes)
}

fn number(random: &mut Random, wrong: bool, right: i64) -> String {
    const ODD: [&str; 10] = [
        "-1",
        "0",
        "2147483648",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1e300",
        "\"7\"",
        "null",
        "[]",
    ];
    match wrong && random.chance(0.3) {
        true => random.choose(&ODD).copied().unwrap_or("0").to_owned(),
        false => right.to_string(),
    }
}

fn joined(count: usize, mut one: impl FnMut() -> String) -> String {
    let all: Vec<_> = (0..count).map(|_| one()).collect();
    all.join(",")
}

/// Few, or now and then far too many.
fn how_many(random: &mut Random, wrong: bool) -> usize {
    match wrong && random.chance(0.05) {
        true => 2_000,
        false => 1 + random.below(3),
    }
}

fn subscription(random: &mut Random, wrong: bool) -> String {
    let topic = part(Kind::Topic, random, wrong);
    let expression = part(Kind::Expression, random, wrong);
    let kind = part(Kind::ExpressionType, random, wrong);
    let version = number(random, wrong, 1);
    format!(
        "{{\"topic\":{topic},\"subString\":{expression},\"expressionType\":{kind},\"subVersion\":{version},\"tagsSet\":[\"a\"],\"codeSet\":[97]}}"
    )
}

fn heartbeat(random: &mut Random, wrong: bool) -> String {
    let client = part(Kind::Client, random, wrong);
    let (producers, consumers) = (how_many(random, wrong), how_many(random, wrong));
    let producers = joined(producers, || {
        format!("{{\"groupName\":{}}}", part(Kind::Group, random, wrong))
    });
    let consumers = joined(consumers, || {
        let group = part(Kind::Group, random, wrong);
        let count = how_many(random, false);
        let subscriptions = joined(count, || subscription(random, wrong));
        let model = ["CLUSTERING", "BROADCASTING"][random.below(2)];
        format!(
            "{{\"groupName\":{group},\"messageModel\":\"{model}\",\"consumeType\":\"CONSUME_PASSIVELY\",\"consumeFromWhere\":\"CONSUME_FROM_FIRST_OFFSET\",\"subscriptionDataSet\":[{subscriptions}],\"unitMode\":false}}"
        )
    });
    format!(
        "{{\"clientID\":{client},\"producerDataSet\":[{producers}],\"consumerDataSet\":[{consumers}],\"heartbeatFingerprint\":{},\"withoutSub\":{}}}",
        number(random, wrong, 0),
        random.chance(0.1)
    )
}

fn lock(random: &mut Random, wrong: bool) -> String {
    let count = how_many(random, wrong);
    let queues = joined(count, || {
        format!(
            "{{\"topic\":{},\"brokerName\":\"broker-a\",\"queueId\":{}}}",
            part(Kind::Topic, random, wrong),
            number(random, wrong, 1)
        )
    });
    format!(
        "{{\"consumerGroup\":{},\"clientId\":{},\"mqSet\":[{queues}],\"onlyThisBroker\":true}}",
        part(Kind::Group, random, wrong),
        part(Kind::Client, random, wrong)
    )
}

fn topic(random: &mut Random, wrong: bool) -> String {
    format!(
        "{{\"topicName\":{},\"readQueueNums\":{},\"writeQueueNums\":{},\"perm\":{},\"topicFilterType\":\"SINGLE_TAG\",\"topicSysFlag\":0,\"order\":false,\"attributes\":{{{}:{}}}}}",
        part(Kind::Topic, random, wrong),
        number(random, wrong, 4),
        number(random, wrong, 4),
        number(random, wrong, 6),
        text(
            ["+message.type", "message.type", "\0"][random.below(if wrong { 3 } else { 1 })]
                .as_bytes()
        ),
        text(b"NORMAL"),
    )
}

fn group(random: &mut Random, wrong: bool) -> String {
    format!(
        "{{\"groupName\":{},\"consumeEnable\":true,\"retryQueueNums\":{},\"retryMaxTimes\":{},\"brokerId\":0,\"groupRetryPolicy\":{{\"type\":\"CUSTOMIZED\",\"customizedRetryPolicy\":{{\"next\":[{}]}}}},\"attributes\":{{\"a\":{}}}}}",
        part(Kind::Group, random, wrong),
        number(random, wrong, 1),
        number(random, wrong, 3),
        number(random, wrong, 1_000),
        part(Kind::Text, random, wrong)
    )
}

fn settings(random: &mut Random, wrong: bool) -> String {
    let count = how_many(random, wrong);
    let mut lines = String::new();
    for _ in 0..count {
        let Some((name, values)) = random.choose(&SETTINGS) else {
            continue;
        };
        let value = random
            .choose(values)
            .copied()
            .unwrap_or_default()
            .as_bytes()
            .to_vec();
        let value = match wrong && random.chance(0.5) {
            true => odd(Kind::Count, random),
            false => value,
        };
        lines.push_str(&format!("{name}={}\n", String::from_utf8_lossy(&value)));
    }
    if wrong && random.chance(0.2) {
        lines.push_str(
            "storePathRootDir=/tmp/x\nbrokerConfigPath=/etc/passwd\n\u{0}=\nnothing\n=\n\\u00zz=\\",
        );
    }
    lines
}

fn registration(random: &mut Random, wrong: bool) -> String {
    let count = how_many(random, wrong);
    let topics = joined(count, || {
        let name = part(Kind::Topic, random, wrong);
        format!("{name}:{}", topic(random, wrong))
    });
    format!(
        "{{\"filterServerList\":[],\"topicConfigSerializeWrapper\":{{\"dataVersion\":{{\"counter\":{},\"stateVersion\":{},\"timestamp\":{}}},\"topicConfigTable\":{{{topics}}}}}}}",
        number(random, wrong, 1),
        number(random, wrong, 1),
        number(random, wrong, 1_000),
    )
}

/// One message within a batch.
fn inner(random: &mut Random, wrong: bool) -> Vec<u8> {
    let body = vec![b'b'; random.below(200)];
    let properties = properties(random);
    let mut message = Vec::new();
    let total = (4 * 5 + 2 + body.len() + properties.len()) as u32;
    let length = |random: &mut Random, n: u32| match wrong && random.chance(0.1) {
        true => [0, u32::MAX, 0x7fff_ffff, 0x8000_0000, n + 1][random.below(5)],
        false => n,
    };
    message.extend_from_slice(&length(random, total).to_be_bytes());
    message.extend_from_slice(&[0; 12]);
    message.extend_from_slice(&length(random, body.len() as u32).to_be_bytes());
    message.extend_from_slice(&body);
    message.extend_from_slice(&(length(random, properties.len() as u32) as u16).to_be_bytes());
    message.extend_from_slice(&properties);
    message
}

fn message(random: &mut Random, wrong: bool) -> Vec<u8> {
    let len = match random.below(200) {
        0 => 65_536,
        1 if wrong => 4_194_305,
        2 => 300_000,
        3..=20 => 4_096,
        21..=25 => 0,
        _ => random.below(300),
    };
    vec![b'm'; len]
}

/// Ways of being no body of its kind.
fn spoil(body: &mut Vec<u8>, random: &mut Random) {
    match random.below(9) {
        0 => body.truncate(random.below(body.len() + 1)),
        1 => body.extend_from_slice(b"]}garbage\0"),
        2 => *body = b"[".repeat(100_000),
        3 => *body = b"{\"a\":".repeat(50_000),
        4 => {
            if !body.is_empty() {
                let at = random.below(body.len());
                body[at] = random.draw() as u8;
            }
        }
        5 => *body = vec![0xff; random.below(64)],
        6 => body.clear(),
        7 => {
            let again = body.clone();
            body.extend_from_slice(&again);
        }
        // What begins like zlib, or like LZ4 or zstd frames.
        _ => {
            let begins: [&[u8]; 3] = [
                &[0x78, 0x9c],
                &[0x04, 0x22, 0x4d, 0x18],
                &[0x28, 0xb5, 0x2f, 0xfd],
            ];
            *body = begins[random.below(3)].to_vec();
            body.extend((0..random.below(300)).map(|_| random.draw() as u8));
        }
    }
}

/// A body of this kind; a wrong one is wrong in parts, or as a whole.
pub fn body(content: Content, random: &mut Random, wrong: bool) -> Vec<u8> {
    let mut body = match content {
        Content::Nothing => Vec::new(),
        Content::Message => message(random, wrong),
        Content::Batch => {
            let count = how_many(random, wrong);
            (0..count).flat_map(|_| inner(random, wrong)).collect()
        }
        Content::Heartbeat => heartbeat(random, wrong).into_bytes(),
        Content::Lock => lock(random, wrong).into_bytes(),
        Content::CheckClient => format!(
            "{{\"clientId\":{},\"group\":{},\"namespace\":null,\"subscriptionData\":{}}}",
            part(Kind::Client, random, wrong),
            part(Kind::Group, random, wrong),
            subscription(random, wrong)
        )
        .into_bytes(),
        Content::TopicList => {
            let count = how_many(random, wrong);
            format!(
                "{{\"topicConfigList\":[{}]}}",
                joined(count, || topic(random, wrong))
            )
            .into_bytes()
        }
        Content::Group => group(random, wrong).into_bytes(),
        Content::GroupList => {
            let count = how_many(random, wrong);
            format!(
                "{{\"groupConfigList\":[{}]}}",
                joined(count, || group(random, wrong))
            )
            .into_bytes()
        }
        Content::Settings => settings(random, wrong).into_bytes(),
        Content::Registration => registration(random, wrong).into_bytes(),
        Content::DataVersion => format!(
            "{{\"counter\":{},\"timestamp\":{}}}",
            number(random, wrong, 1),
            number(random, wrong, 5)
        )
        .into_bytes(),
        Content::Json => format!(
            "{{\"{}\":{}}}",
            key(random),
            part(Kind::Text, random, wrong)
        )
        .into_bytes(),
    };
    if wrong && random.chance(0.3) {
        spoil(&mut body, random);
    }
    body
}
