//! Settings in force, and how they change at run time: UPDATE_BROKER_CONFIG (25).
//!
//! A setting that is changed so belongs to the set and not to one process: it is replicated as a KV config under
//! [`NAMESPACE`], and every replica lays it over what its own file says, at its start and whenever one is applied. So it
//! survives a failover and a restart. An empty value takes it back. Only the keys of [`RUN_TIME`] can be changed, which
//! bounds what is replicated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use raftmq_raft::{AckLevel, Policy};
use raftmq_remoting::codes::response;
use raftmq_store::Command;
use tokio::sync::watch;

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::config::{AckQuorum, Config};
use crate::config_known::is_unused;
use crate::error::BrokerError;
use crate::names;
use crate::send::Refusal;

/// Namespace of the KV configs that override settings.
const NAMESPACE: &str = "settings";

/// What clients may do; name servers are told when it changes.
const PERMISSION: &str = "brokerPermission";

/// What can be changed at run time: nothing of it is read once only, or belongs to one machine.
const RUN_TIME: &[&str] = &[
    "ackQuorum",
    "allAckInSyncStateSet",
    "allowRecallWhenBrokerNotWriteable",
    "asyncMaxUncommittedBytes",
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "autoFinalizeUpgrade",
    PERMISSION,
    "brokerRole",
    "channelExpiredTimeout",
    "cleanFileForciblyEnable",
    "cleanResourceInterval",
    "defaultQueryMaxNum",
    "deleteWhen",
    "diskMaxUsedSpaceRatio",
    "diskSpaceCleanForciblyRatio",
    "diskSpaceWarningLevelRatio",
    "enableMixedMessageType",
    "enablePropertyFilter",
    "fileReservedTime",
    "inSyncReplicas",
    "inSyncTimeoutMs",
    "litePullMessageEnable",
    "longPollingEnable",
    "maxMessageSize",
    "maxMsgsNumBatch",
    "maxTransferBytesOnMessageInDisk",
    "maxTransferBytesOnMessageInMemory",
    "maxTransferCountOnMessageInDisk",
    "maxTransferCountOnMessageInMemory",
    "minInSyncReplicas",
    "notifyConsumerIdsChangedEnable",
    "preferredLeaderId",
    "raftReplicas",
    "recallMessageEnable",
    "rejectTransactionMessage",
    "replicaEvictAfterMs",
    "sendThreadPoolQueueCapacity",
    "shortPollingTimeMills",
    "slaveReadEnable",
    "storeReplyMessageEnable",
    "timerMaxDelaySec",
    "timerWheelEnable",
    "transactionCheckInterval",
    "transactionCheckMax",
    "transactionTimeOut",
    "useServerSideResetOffset",
];

/// RocketMQ's black list: refused as RocketMQ refuses them.
const FORBIDDEN: &[&str] = &["brokerConfigPath", "configBlackList"];

/// Longest request, bytes.
const MAX_BODY: usize = 64 * 1024;

/// Longest value, bytes: it is replicated.
const MAX_VALUE: usize = 1024;

/// The settings of one process.
pub struct Settings {
    /// What its file says.
    file: Config,
    now: ArcSwap<Config>,
    refreshing: Mutex<()>,
    changed: watch::Sender<()>,
}

impl Settings {
    pub fn new(file: Config) -> Self {
        Self {
            now: ArcSwap::from_pointee(file.clone()),
            file,
            refreshing: Mutex::default(),
            changed: watch::Sender::default(),
        }
    }

    pub fn now(&self) -> arc_swap::Guard<Arc<Config>> {
        self.now.load()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Lays what the set has decided over what the file says. Fast, and may be called at any time.
pub fn refresh(broker: &Broker) {
    let settings = &broker.settings;
    let _one_at_a_time = settings.refreshing.lock();
    let (now, ignored) = overridden(&settings.file, |key| broker.state().kv(NAMESPACE, key));
    for error in ignored {
        tracing::warn!(%error, "a setting of the set cannot work here, the file's stays in force");
    }
    let changes = changes(&settings.file, &settings.now.load(), &now);
    settings.now.store(Arc::new(now));
    apply(broker);
    if !changes.is_empty() {
        changes.iter().for_each(|line| tracing::info!("{line}"));
        settings.changed.send_replace(());
    }
}

/// Tells the replica what it has to know of the settings in force.
fn apply(broker: &Broker) {
    broker.replica.set_policy(policy(&broker.config()));
}

/// What the replica has to know.
pub fn policy(config: &Config) -> Policy {
    let ms = Duration::from_millis;
    Policy {
        ack: match config.ack() {
            AckQuorum::Leader => AckLevel::Leader,
            AckQuorum::All => AckLevel::All,
            _ => AckLevel::Majority,
        },
        min_in_sync: config.min_in_sync as usize,
        in_sync_timeout: ms(config.in_sync_timeout_ms),
        async_max_uncommitted: config.async_max_uncommitted,
        evict_after: (config.evict_after_ms > 0).then(|| ms(config.evict_after_ms)),
        voters: config.replicas as usize,
        auto_finalize: config.auto_finalize,
        preferred_leader: Some(config.preferred_leader.clone()).filter(|name| !name.is_empty()),
    }
}

/// UPDATE_BROKER_CONFIG: all of the request's settings or none.
pub fn update(broker: &Arc<Broker>, call: Call) {
    let commands = match commands(broker, &call.cmd.body.to_bytes()) {
        Ok(commands) if commands.is_empty() => return call.ok(),
        Ok(commands) => commands,
        Err(refusal) => {
            tracing::warn!(client = %call.client, reason = refusal.remark, "settings are not changed");
            return call.error(refusal.code, refusal.remark);
        }
    };
    tracing::info!(client = %call.client, "an administrator changes settings");
    broker.propose_for(call, commands, |broker, call| {
        refresh(broker);
        broker.when_shown(|_| call.ok());
    });
}

fn commands(broker: &Broker, body: &[u8]) -> Result<Vec<Command>, Refusal> {
    if body.len() > MAX_BODY {
        let remark = format!("more than {MAX_BODY} bytes of settings");
        return Err(Refusal::new(response::INVALID_PARAMETER, remark));
    }
    let pairs = java_properties::read(&raftmq_remoting::settings_text::ascii(body)[..])
        .map_err(|_| Refusal::new(response::SYSTEM_ERROR, "string2Properties error".to_owned()))?;
    let mut commands = overrides(&broker.config(), pairs)?;
    let permission = commands
        .iter()
        .any(|c| matches!(c, Command::PutKv { key, .. } | Command::DeleteKv { key, .. } if key == PERMISSION));
    // Name servers take a topic table with a new version only.
    if permission && let Some(topic) = broker.state().topic(names::SELF_TEST) {
        commands.push(Command::PutTopic {
            config: topic.as_ref().clone(),
            now_ms: now_ms(),
        });
    }
    Ok(commands)
}

/// The overrides that a request asks for, when each of them is possible.
fn overrides(now: &Config, pairs: HashMap<String, String>) -> Result<Vec<Command>, Refusal> {
    let mut pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.trim(), v.trim())).collect();
    pairs.sort();
    let mut commands = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        check(now, key, value)?;
        let (namespace, key) = (NAMESPACE.to_owned(), key.to_owned());
        commands.push(match value.is_empty() {
            true => Command::DeleteKv { namespace, key },
            false => Command::PutKv {
                namespace,
                key,
                value: value.to_owned(),
            },
        });
    }
    Ok(commands)
}

/// Whether one override is possible.
fn check(now: &Config, key: &str, value: &str) -> Result<(), Refusal> {
    let refused = |remark: String| Err(Refusal::new(response::INVALID_PARAMETER, remark));
    if FORBIDDEN.contains(&key) {
        return Err(Refusal::new(
            response::NO_PERMISSION,
            "Can not update config in black list.".to_owned(),
        ));
    }
    if RUN_TIME.binary_search(&key).is_err() {
        return refused(match (Config::has(key), is_unused(key)) {
            (true, _) => {
                format!("{key} needs a restart: change it in the settings file of each replica")
            }
            (_, true) => {
                format!("{key} is a RocketMQ setting that this broker does not need")
            }
            _ => format!("unknown setting {key}"),
        });
    }
    if value.len() > MAX_VALUE {
        return refused(format!(
            "the value of {key} is longer than {MAX_VALUE} bytes"
        ));
    }
    match value.is_empty() {
        true => Ok(()),
        false => with(now, key, value).map_or_else(|e| refused(e.to_string()), |_| Ok(())),
    }
}

/// The settings with one of them changed.
fn with(config: &Config, key: &str, value: &str) -> Result<Config, BrokerError> {
    let mut config = config.clone();
    config.set(key, value)?;
    config.check()?;
    Ok(config)
}

/// The file's settings under the set's, and what could not be taken: another version of this broker may have allowed it,
/// or this replica's file may say something that does not go with it.
fn overridden(file: &Config, get: impl Fn(&str) -> Option<String>) -> (Config, Vec<BrokerError>) {
    let mut now = file.clone();
    let mut ignored = Vec::new();
    for key in RUN_TIME {
        if let Some(value) = get(key) {
            match with(&now, key, &value) {
                Ok(changed) => now = changed,
                Err(error) => ignored.push(error),
            }
        }
    }
    (now, ignored)
}

/// A line for each setting that changes.
fn changes(file: &Config, before: &Config, now: &Config) -> Vec<String> {
    let (file, before) = (file.entries(), before.entries());
    let all = now.entries().into_iter().zip(before).zip(file);
    let changed = all.filter(|((now, before), _)| now.1 != before.1);
    changed
        .map(|(((key, value), _), (_, said))| match value == said {
            true => format!("setting {key}={value}, as broker.conf says"),
            false => format!("setting {key}={value} (broker.conf says {said})"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(config: &Config, pairs: &[(&str, &str)]) -> Result<Vec<Command>, (i32, String)> {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        overrides(config, pairs.collect()).map_err(|r| (r.code, r.remark))
    }

    fn refusal(pairs: &[(&str, &str)]) -> (i32, String) {
        ask(&Config::default(), pairs).expect_err("refused")
    }

    #[test]
    fn run_time_settings_exist_and_can_be_set() {
        assert!(RUN_TIME.is_sorted(), "for binary search");
        let config = Config::default();
        for key in RUN_TIME {
            let (_, value) = config
                .entries()
                .into_iter()
                .find(|(k, _)| k == key)
                .unwrap_or_else(|| panic!("{key}"));
            assert!(with(&config, key, &value).is_ok(), "{key}={value}");
        }
    }

    #[test]
    fn one_bad_setting_refuses_the_request() {
        let good = ("brokerRole", "ASYNC_MASTER");
        assert_eq!(ask(&Config::default(), &[good]).map(|c| c.len()), Ok(1));
        for (bad, code, why) in [
            (("listenPort", "1"), 29, "listenPort needs a restart"),
            (("dLegerPeers", "n0-h:1"), 29, "dLegerPeers needs a restart"),
            (
                ("haListenPort", "1"),
                29,
                "haListenPort is a RocketMQ setting",
            ),
            (("brokerRole2", "x"), 29, "unknown setting brokerRole2"),
            (("brokerRole", "x"), 29, "SYNC_MASTER or ASYNC_MASTER"),
            (("fileReservedTime", "-1"), 29, "from 0 to 876000"),
            (("minInSyncReplicas", "10"), 29, "from 1 to 9"),
            (
                ("inSyncReplicas", "2"),
                29,
                "ackQuorum=all and minInSyncReplicas",
            ),
            (("replicaEvictAfterMs", "10"), 29, "at least 5000"),
            (("configBlackList", "x"), 16, "black list"),
        ] {
            let refused = refusal(&[good, bad]);
            assert_eq!(refused.0, code, "{refused:?}");
            assert!(refused.1.contains(why), "{refused:?}");
        }
        assert!(
            refusal(&[("preferredLeaderId", &"n".repeat(2_000))])
                .1
                .contains("longer")
        );
    }

    #[test]
    fn an_empty_value_takes_an_override_back() {
        let commands = ask(&Config::default(), &[("brokerRole", " ")]).unwrap();
        let taken_back = Command::DeleteKv {
            namespace: NAMESPACE.to_owned(),
            key: "brokerRole".to_owned(),
        };
        assert_eq!(commands, [taken_back]);
    }

    #[test]
    fn the_set_overrides_the_file_where_it_can() {
        let file = Config::default();
        let set = |key: &str| match key {
            "brokerRole" => Some("ASYNC_MASTER".to_owned()),
            // More than the majority of this replica's raftPeers.
            "inSyncReplicas" => Some("3".to_owned()),
            "listenPort" => Some("1".to_owned()),
            _ => None,
        };
        let (now, ignored) = overridden(&file, set);
        assert_eq!(now.ack(), AckQuorum::Leader);
        assert_eq!((now.in_sync, now.listen_port), (1, 10911));
        assert_eq!(ignored.len(), 1, "{ignored:?}");
        assert_eq!(
            changes(&file, &file, &now),
            ["setting brokerRole=ASYNC_MASTER (broker.conf says SYNC_MASTER)"]
        );
        assert_eq!(
            changes(&file, &now, &file),
            ["setting brokerRole=SYNC_MASTER, as broker.conf says"]
        );
    }
}
