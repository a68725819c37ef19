//! What a replica says of its state, and what lies in its metadata: to be compared with the others', and with what the same
//! replica said before a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;

use raftmq_benches::BenchError;
use raftmq_client::Admin;
use raftmq_remoting::{RemotingCommand, json, request_code};
use raftmq_store::kv::{Family, RocksKv, for_each};
use serde_json::Value;

/// Topics, groups and offsets, each as JSON with sorted keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub topics: BTreeMap<String, String>,
    pub groups: BTreeMap<String, String>,
    pub offsets: BTreeMap<String, String>,
}

/// Which table a request's answer has, and its name there.
const TABLES: [(i32, &str); 3] = [
    (request_code::GET_ALL_TOPIC_CONFIG, "topicConfigTable"),
    (
        request_code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
        "subscriptionGroupTable",
    ),
    (request_code::GET_ALL_CONSUMER_OFFSET, "offsetTable"),
];

impl Answers {
    /// Asks one replica, which answers from what it has applied itself.
    ///
    /// # Errors
    /// It does not answer, or not with JSON.
    pub async fn of(admin: &Admin, addr: &str) -> Result<Self, BenchError> {
        let mut answers = Self::default();
        let places = [
            &mut answers.topics,
            &mut answers.groups,
            &mut answers.offsets,
        ];
        for ((code, name), place) in TABLES.into_iter().zip(places) {
            let answer = admin.call(addr, RemotingCommand::request(code)).await?;
            let body = answer.body.to_bytes();
            // Java's library writes numbers as keys.
            let standard = json::standardize(&body).map(|text| text.into_owned());
            let body = standard
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            let unreadable = || BenchError::Usage(format!("the answer to {code} is no JSON"));
            let body: Value = body.ok_or_else(unreadable)?;
            let table = body.get(name).and_then(Value::as_object);
            for (key, value) in table.into_iter().flatten() {
                place.insert(key.clone(), value.to_string());
            }
        }
        Ok(answers)
    }

    /// The first thing that differs.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let tables = [
            ("topic", &self.topics, &other.topics),
            ("group", &self.groups, &other.groups),
            ("offsets", &self.offsets, &other.offsets),
        ];
        for (what, here, there) in tables {
            for key in here.keys().chain(there.keys()) {
                let (a, b) = (here.get(key), there.get(key));
                if a != b {
                    return Some(format!("{what} {key:?}: {a:?} and {b:?}"));
                }
            }
        }
        None
    }
}

/// A checksum and the number of pairs of every family of metadata but the machine's own, of a store that is not in use.
///
/// # Errors
/// It cannot be read.
pub fn metadata(store: PathBuf) -> Result<BTreeMap<&'static str, (usize, u64)>, BenchError> {
    let failed =
        |e: raftmq_store::StoreError| BenchError::Usage(format!("{}: {e}", store.display()));
    let kv = RocksKv::open(&store.join("metadata")).map_err(failed)?;
    let mut sums = BTreeMap::new();
    for family in Family::ALL {
        // How far it is, and memberships: each replica may have a last entry of its own there.
        if family == Family::Meta {
            continue;
        }
        let (mut count, mut sum) = (0, 0xcbf2_9ce4_8422_2325_u64);
        let visit = |key: &[u8], value: &[u8]| {
            count += 1;
            for part in [key, value] {
                for byte in (part.len() as u64).to_be_bytes().iter().chain(part) {
                    sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
            Ok(())
        };
        for_each(&kv, family, visit).map_err(failed)?;
        sums.insert(family.name(), (count, sum));
    }
    Ok(sums)
}
