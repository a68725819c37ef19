//! Messages, commands and bare records that are right, odd or impossible.

use bytes::Bytes;
use raftmq_remoting::ByteStr;
use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};
use raftmq_remoting::message::{NewMessage, body_crc, properties};
use raftmq_store::commitlog::format::COMMAND_MAGIC;
use raftmq_store::{Command, OffsetCommit, PendingTransaction, TimerKey};

/// splitmix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A topic, group or key: one of a few in two of three cases.
    pub fn name(&mut self) -> String {
        const ODD: [&str; 24] = [
            "",
            "\0",
            "a\0b",
            "a\0b\0c",
            "\0\x007",
            "a\tb",
            "a\nb",
            "/",
            "a/b",
            "../../x",
            "..",
            ".",
            " ",
            "%RETRY%",
            "主题",
            "\u{1}\u{2}",
            "\u{7f}",
            "SCHEDULE_TOPIC_XXXX",
            "rmq_sys_wheel_timer",
            "RMQ_SYS_TRANS_HALF_TOPIC",
            "table",
            "damaged",
            "A\0",
            "null",
        ];
        const LENGTHS: [usize; 9] = [127, 128, 248, 252, 255, 256, 262, 300, 5_000];
        match self.below(9) {
            0..=5 => self.pick(&["A", "B", "C", "%RETRY%A"]).to_owned(),
            6 | 7 => self.pick(&ODD).to_owned(),
            _ => "n".repeat(self.pick(&LENGTHS)) + self.pick(&["", "1", "2"]),
        }
    }

    fn int(&mut self) -> i32 {
        match self.one_in(4) {
            true => self.pick(&[-1, i32::MIN, i32::MAX, 65_535, 65_536, 1 << 20]),
            false => self.below(3) as i32,
        }
    }

    fn long(&mut self) -> i64 {
        match self.one_in(3) {
            true => self.pick(&[
                -1,
                i64::MIN,
                i64::MAX,
                i64::MAX - 1,
                1 << 40,
                u32::MAX as i64,
            ]),
            false => self.below(200) as i64,
        }
    }

    fn properties(&mut self) -> Bytes {
        let mut out = properties::Builder::new();
        out.push("UNIQ_KEY", &format!("u{}", self.below(50)));
        let values = [
            "1",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "x",
            "5",
            "99999999999999999999",
            "\0",
        ];
        for name in [
            "KEYS",
            "TAGS",
            "TIMER_OUT_MS",
            "TRANSACTION_CHECK_TIMES",
            "REAL_TOPIC",
            "DELAY",
        ] {
            if self.one_in(3) {
                out.push(name, self.pick(&values));
            }
        }
        match self.below(30) {
            0 => Bytes::from(vec![b'p'; self.pick(&[32_700, 32_767, 32_768, 40_000])]),
            1 => Bytes::from(
                (0..self.below(200))
                    .map(|_| self.draw() as u8)
                    .collect::<Vec<_>>(),
            ),
            _ => out.build(),
        }
    }

    pub fn message(&mut self) -> NewMessage {
        let body = match self.below(40) {
            0 => vec![0; 70_000],
            1..=3 => vec![1; 9_000],
            _ => vec![2; self.below(400) as usize],
        };
        let body = Bytes::from(body);
        let topic = match self.below(6) {
            0 => self
                .pick(&[
                    "SCHEDULE_TOPIC_XXXX",
                    "rmq_sys_wheel_timer",
                    "RMQ_SYS_TRANS_HALF_TOPIC",
                ])
                .to_owned(),
            _ => self.name(),
        };
        let v6 = self.one_in(5);
        NewMessage {
            topic: ByteStr::from(topic),
            queue_id: self.int(),
            flag: self.int(),
            sys_flag: if self.one_in(3) {
                self.draw() as i32
            } else {
                0
            },
            born_timestamp: self.long(),
            born_host: if v6 {
                ([0xfe80, 0, 0, 0, 0, 0, 0, 1], 1).into()
            } else {
                ([127, 0, 0, 1], 1).into()
            },
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: self.int(),
            prepared_transaction_offset: self.long(),
            body_crc: body_crc(&body),
            body,
            properties: self.properties(),
        }
    }

    fn offsets(&mut self) -> Vec<OffsetCommit> {
        let count = self.pick(&[0, 1, 1, 2, 300]);
        (0..count)
            .map(|_| OffsetCommit {
                group: self.name(),
                topic: self.name(),
                queue_id: self.int(),
                offset: self.long(),
            })
            .collect()
    }

    pub fn command(&mut self) -> Command {
        let now_ms = self.long();
        match self.below(14) {
            0 | 1 => Command::PutTopic {
                config: TopicConfig {
                    topic_name: self.name(),
                    perm: self.int(),
                    read_queue_nums: self.int(),
                    write_queue_nums: self.int(),
                    attributes: [(self.name(), self.name())].into(),
                    ..TopicConfig::default()
                },
                now_ms,
            },
            2 => Command::DeleteTopic {
                topic: self.name(),
                now_ms,
            },
            3 => Command::PutGroup {
                config: SubscriptionGroupConfig {
                    group_name: self.name(),
                    retry_max_times: self.int(),
                    attributes: [(self.name(), self.name())].into(),
                    ..SubscriptionGroupConfig::default()
                },
                now_ms,
            },
            4 => Command::DeleteGroup {
                group: self.name(),
                clean_offset: self.one_in(2),
                now_ms,
            },
            5 | 6 => Command::CommitOffsets {
                offsets: self.offsets(),
            },
            7 => Command::AssignOffsets {
                offsets: self.offsets(),
                reset: self.one_in(2),
            },
            8 => Command::ResetsTaken {
                offsets: self.offsets(),
            },
            9 => Command::PutKv {
                namespace: self.name(),
                key: self.name(),
                value: self.name(),
            },
            10 => Command::DeleteKv {
                namespace: self.name(),
                key: self.name(),
            },
            11 => Command::TrimTo {
                // What a leader proposes: a position that it has.
                position: self.below(5) * 64 * 1024,
            },
            12 => Command::TimerDone {
                keys: (0..self.below(4))
                    .map(|_| TimerKey {
                        deliver_at_ms: self.long(),
                        physical_offset: self.long(),
                    })
                    .collect(),
            },
            _ => match self.one_in(2) {
                true => Command::TransactionDone {
                    positions: (0..self.below(4)).map(|_| self.long()).collect(),
                },
                false => Command::TransactionChecked {
                    pending: (0..self.below(4))
                        .map(|_| PendingTransaction {
                            position: self.long(),
                            checks: self.draw() as u32,
                            since_ms: self.long(),
                        })
                        .collect(),
                },
            },
        }
    }

    /// A record as it lies in an entry, of any bytes: commands that mean nothing, messages that are cut off or lie about
    /// their lengths. None that a later version could have written: those stop a replica by design.
    pub fn raw_record(&mut self) -> Vec<u8> {
        const NOTHING: [&str; 14] = [
            "{",
            "{}",
            "{\"PutKv\":{}}",
            "{\"PutKv\":null}",
            "{\"PutKv\":[]}",
            "{\"DeleteTopic\":{\"topic\":1,\"now_ms\":2}}",
            "{\"DeleteTopic\":{\"topic\":\"A\"}}",
            "{\"TrimTo\":{\"position\":-1}}",
            "{\"TrimTo\":{\"position\":1e99}}",
            "{\"CommitOffsets\":{\"offsets\":[{\"g\":\"A\",\"t\":\"A\",\"q\":99999999999,\"o\":1}]}}",
            "{\"CommitOffsets\":{\"offsets\":\"A\"}}",
            "{\"TimerDone\":{\"keys\":[{\"at\":1}]}}",
            "{\"PutTopic\":{\"config\":{},\"now_ms\":\"x\"}}",
            "{\"PutKv\":{\"namespace\":\"a\",\"namespace\":\"b\",\"key\":\"c\",\"value\":\"d\"}}",
        ];
        match self.below(8) {
            0..=2 => {
                let text = self.pick(&NOTHING);
                framed(COMMAND_MAGIC, text.as_bytes())
            }
            // A command as an older version let it in: whatever its names are.
            3 | 4 => framed(COMMAND_MAGIC, &self.command().encode()),
            5 => {
                let mut deep = b"{\"PutKv\":".to_vec();
                deep.extend(std::iter::repeat_n(b'[', 3_000));
                framed(COMMAND_MAGIC, &deep)
            }
            _ => {
                let mut message = self.message();
                message.sys_flag = 4;
                message.topic = ByteStr::from(self.pick(&["A", "Z"]));
                message.body = Bytes::new();
                let mut bytes = Vec::new();
                if message.try_encode_into(&mut bytes).is_err() {
                    return framed(COMMAND_MAGIC, b"{");
                }
                // All but the size, without which nothing else could be found.
                for _ in 0..self.below(6) {
                    let at = 8 + self.below(bytes.len() as u64 - 8) as usize;
                    bytes[at] = self.draw() as u8;
                }
                bytes
            }
        }
    }
}

fn framed(magic: u32, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(8 + payload.len());
    record.extend_from_slice(&((8 + payload.len()) as u32).to_be_bytes());
    record.extend_from_slice(&magic.to_be_bytes());
    record.extend_from_slice(payload);
    record
}
