//! The broker's settings: one struct, one place of defaults, RocketMQ's key names.
//!
//! A file of `key=value` lines (Java properties) is read key by key. An unknown key is reported by name and skipped, a
//! key that RocketMQ knows and this broker has no use for is noted, a bad value is an error that names key, value and
//! range. Nothing here touches the network or the disk except [`Config::load`], which reads the one file.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use java_properties::LineContent;
use raftmq_remoting::validate::asks_for_security;

use crate::config_known::{NOTED, REFUSED, is_unused, meant};
use crate::delay::DelayLevels;
use crate::delete_when::DeleteWhen;
use crate::error::BrokerError;

/// Where a set answers a send (`brokerRole`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerRole {
    /// After a majority persisted it.
    SyncMaster,
    /// After the master persisted it.
    AsyncMaster,
}

/// When an entry counts as persisted (`flushDiskType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushDiskType {
    /// After the write to the page cache.
    Async,
    /// After fdatasync.
    Sync,
}

/// Which replicas must hold a message before its send is answered (`ackQuorum`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckQuorum {
    /// What `allAckInSyncStateSet` and `brokerRole` say.
    Role,
    Leader,
    Majority,
    /// All voters that are in sync.
    All,
}

/// Where metrics go (`metricsExporterType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsExporter {
    Disable,
    /// Prometheus fetches them.
    Prom,
}

/// A value that a settings file can hold.
trait Setting: Sized {
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
    /// Numbers are compared with their range; other values have none.
    fn number(&self) -> Option<i64> {
        None
    }
}

macro_rules! number_setting {
    ($($t:ty),*) => {$(
        impl Setting for $t {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| "a whole number".to_owned())
            }
            fn show(&self) -> String {
                self.to_string()
            }
            fn number(&self) -> Option<i64> {
                i64::try_from(*self).ok()
            }
        }
    )*};
}
number_setting!(u16, u32, u64, i32, i64, usize);

impl Setting for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for BrokerRole {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "SYNC_MASTER" => Ok(Self::SyncMaster),
            "ASYNC_MASTER" => Ok(Self::AsyncMaster),
            "SLAVE" => Err("SYNC_MASTER or ASYNC_MASTER: the replicas of a set elect their master, so no broker is \
                            configured as a slave; give every replica the same brokerRole and the same raftPeers"
                .to_owned()),
            _ => Err("SYNC_MASTER or ASYNC_MASTER".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::SyncMaster => "SYNC_MASTER".to_owned(),
            Self::AsyncMaster => "ASYNC_MASTER".to_owned(),
        }
    }
}

impl Setting for FlushDiskType {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ASYNC_FLUSH" => Ok(Self::Async),
            "SYNC_FLUSH" => Ok(Self::Sync),
            _ => Err("ASYNC_FLUSH or SYNC_FLUSH".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Async => "ASYNC_FLUSH".to_owned(),
            Self::Sync => "SYNC_FLUSH".to_owned(),
        }
    }
}

impl Setting for AckQuorum {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "role" => Ok(Self::Role),
            "leader" => Ok(Self::Leader),
            "majority" => Ok(Self::Majority),
            "all" => Ok(Self::All),
            _ => Err("leader, majority or all".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Role => "role".to_owned(),
            Self::Leader => "leader".to_owned(),
            Self::Majority => "majority".to_owned(),
            Self::All => "all".to_owned(),
        }
    }
}

impl Setting for MetricsExporter {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "DISABLE" => Ok(Self::Disable),
            "PROM" => Ok(Self::Prom),
            _ => Err("DISABLE or PROM".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Disable => "DISABLE".to_owned(),
            Self::Prom => "PROM".to_owned(),
        }
    }
}

/// `messageDelayLevel`: the text and what it means.
impl Setting for DelayLevels {
    fn parse(text: &str) -> Result<Self, String> {
        DelayLevels::parse(text)
    }
    fn show(&self) -> String {
        self.text().to_owned()
    }
}

impl Setting for DeleteWhen {
    fn parse(text: &str) -> Result<Self, String> {
        DeleteWhen::parse(text)
    }
    fn show(&self) -> String {
        self.text().to_owned()
    }
}

fn parse_setting<T: Setting>(
    key: &str,
    text: &str,
    range: Option<RangeInclusive<i64>>,
) -> Result<T, BrokerError> {
    let bad = |expected: String| BrokerError::BadSetting {
        key: key.to_owned(),
        value: text.to_owned(),
        expected,
    };
    let value = T::parse(text).map_err(|expected| {
        bad(match &range {
            Some(r) => format!("{expected} from {} to {}", r.start(), r.end()),
            None => expected,
        })
    })?;
    match (range, value.number()) {
        (Some(r), Some(n)) if !r.contains(&n) => Err(bad(format!(
            "a whole number from {} to {}",
            r.start(),
            r.end()
        ))),
        (Some(r), None) => Err(bad(format!(
            "a whole number from {} to {}",
            r.start(),
            r.end()
        ))),
        _ => Ok(value),
    }
}

macro_rules! settings {
    ($( $(#[$doc:meta])* $field:ident : $ty:ty = $key:literal $(| $alias:literal)*, $default:expr $(, $range:expr)? ; )*) => {
        /// All settings, with the defaults of a broker that was given no file.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[$doc])* pub $field: $ty, )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl Config {
            /// Sets one key. `Ok(false)`: no such key.
            pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<bool, BrokerError> {
                match key {
                    $( $key $(| $alias)* => {
                        #[allow(unused_mut, unused_assignments)]
                        let mut range: Option<RangeInclusive<i64>> = None;
                        $( range = Some($range); )?
                        self.$field = parse_setting(key, value, range)?;
                        Ok(true)
                    } )*
                    _ => Ok(false),
                }
            }

            /// Every key, with its other names.
            const KEYS: &[&str] = &[ $( $key $(, $alias)*, )* ];

            /// Whether there is such a key.
            pub fn has(key: &str) -> bool {
                matches!(key, $( $key $(| $alias)* )|*)
            }

            /// Every key with its value in force, sorted by key.
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                let mut all = vec![ $( ($key, self.$field.show()), )* ];
                all.sort();
                all
            }
        }
    };
}

settings! {
    // ---- who this broker is -----------------------------------------------------------------------------------
    /// Cluster this set belongs to. Default `DefaultCluster`.
    cluster: String = "brokerClusterName", "DefaultCluster".to_owned();
    /// Name of the broker set; the same on all its replicas. Default `broker-a`.
    name: String = "brokerName", "broker-a".to_owned();
    /// Read and ignored: the elected master is id 0, the others get their ids from the set's membership. Default 0.
    broker_id: i64 = "brokerId", 0;
    /// Port for clients; the same number less 2 is the second ("VIP") port. Default 10911; 0 lets the system choose both.
    listen_port: u16 = "listenPort", 10911, 0..=65535;
    /// Address clients are told. Default: this machine's outgoing IPv4 address.
    ip1: String = "brokerIP1", default_ip();
    /// Local address the client ports listen on. Default `0.0.0.0`.
    bind_address: String = "bindAddress", "0.0.0.0".to_owned();
    /// Name servers, `host:port` separated by `;`. Default none: clients must be given a route by other means.
    namesrv_addr: String = "namesrvAddr", String::new();
    /// Period of full registrations at the name servers, ms. Default 30000, from 10000 to 60000.
    register_period_ms: u64 = "registerNameServerPeriod", 30_000, 10_000..=60_000;
    /// Time a name server has to answer a registration, ms. Default 24000 as in RocketMQ, from 100 to 60000.
    register_timeout_ms: u64 = "registerBrokerTimeoutMills", 24_000, 100..=60_000;
    /// Region written into every message and send answer. Default `DefaultRegion`.
    region: String = "regionId", "DefaultRegion".to_owned();
    /// Whether send answers tell clients to trace. Default true.
    trace_on: bool = "traceOn", true;

    // ---- storage ----------------------------------------------------------------------------------------------
    /// Directory of all files. Default `$HOME/store`.
    store_dir: String = "storePathRootDir", default_store_dir();
    /// Bytes of one commitlog segment, fixed when the set is created. Default 1073741824, from 1 MiB to 2 GiB less one.
    segment_size: u64 = "mappedFileSizeCommitLog", 1 << 30, (1 << 20)..=i64::from(i32::MAX);
    /// When an entry counts as persisted: `ASYNC_FLUSH` (page cache) or `SYNC_FLUSH` (disk). Default `ASYNC_FLUSH`.
    flush: FlushDiskType = "flushDiskType", FlushDiskType::Async;
    /// Interval of background flushes with `ASYNC_FLUSH`, ms. Default 500, from 1 to 60000.
    flush_interval_ms: u64 = "flushIntervalCommitLog", 500, 1..=60_000;
    /// Pages of 4 KiB that are worth a flush with `ASYNC_FLUSH`; fewer wait. Default 4, from 0 to 262144 (1 GiB).
    flush_least_pages: u64 = "flushCommitLogLeastPages", 4, 0..=262_144;
    /// Time after which fewer pages are flushed too, ms. Default 10000, from 1 to 3600000.
    flush_thorough_ms: u64 = "flushCommitLogThoroughInterval", 10_000, 1..=3_600_000;
    /// Whether a new segment is filled with zeros ahead of its use. Default false.
    warm_segments: bool = "warmMapedFileEnable", false;
    /// Bytes of log a second whose checksums are looked at in the background. Default 8 MiB, up to 16 GiB; 0 for none.
    scrub_rate: u64 = "scrubBytesPerSecond", 8 << 20, 0..=(16 << 30);
    /// Messages are always indexed by key and unique id. Default true.
    message_index: bool = "messageIndexEnable", true;
    /// Most messages in the answer to a query by key. Default 64, from 1 to 1024.
    max_query: usize = "maxMsgsNumBatch", 64, 1..=1024;
    /// Most messages in the answer to a query by unique id. Default 32, from 1 to 1024.
    default_query: usize = "defaultQueryMaxNum", 32, 1..=1024;
    /// `SYNC_MASTER`: a send is answered when a majority holds it. `ASYNC_MASTER`: when the master does. Default
    /// `SYNC_MASTER`: RocketMQ's own default can lose acknowledged messages with the master, its replicated log cannot.
    role: BrokerRole = "brokerRole", BrokerRole::SyncMaster;
    /// `leader`, `majority` or `all` (all voters in sync); overrides what `brokerRole` says. Default: what it says.
    ack_quorum: AckQuorum = "ackQuorum", AckQuorum::Role;
    /// RocketMQ's key for `ackQuorum=all`, where `ackQuorum` says nothing. Default false.
    all_ack: bool = "allAckInSyncStateSet", false;
    /// With `ackQuorum=all`: sends are refused while fewer voters are in sync. Default 1, from 1 to 9.
    min_in_sync: u32 = "minInSyncReplicas", 1, 1..=9;
    /// Accepted up to the majority of raftPeers, which `SYNC_MASTER` waits for in any case. Default 1, from 1 to 9.
    in_sync: u32 = "inSyncReplicas", 1, 1..=9;
    /// With `ackQuorum=all`: time a voter may lag before it is no longer waited for, ms. Default 1000, from 200 to 60000.
    in_sync_timeout_ms: u64 = "inSyncTimeoutMs", 1_000, 200..=60_000;
    /// With more log than this not committed, `ASYNC_MASTER` waits for the majority too, bytes. Default 64 MiB, up to
    /// 64 GiB.
    async_max_uncommitted: u64 = "asyncMaxUncommittedBytes", 64 << 20, 0..=(64 << 30);

    // ---- retention --------------------------------------------------------------------------------------------
    /// Hours after which a message has expired. Default 72, from 0 to 876000 (a hundred years).
    file_reserved_hours: u32 = "fileReservedTime", 72, 0..=876_000;
    /// Hours of the day, local time, `;` between them, at which expired messages are deleted. Default 04.
    delete_when: DeleteWhen = "deleteWhen", DeleteWhen::default();
    /// Time between two looks at what has expired, ms. Default 10000, from 1000 to 3600000.
    clean_interval_ms: u64 = "cleanResourceInterval", 10_000, 1_000..=3_600_000;
    /// Percent of the disk at and above which expired messages are deleted at any hour. Default 75, from 0 to 100;
    /// taken as 10 below that and as 95 above that, as in RocketMQ.
    disk_max_used: u32 = "diskMaxUsedSpaceRatio", 75, 0..=100;
    /// Percent of the disk at and above which messages that have not expired are deleted too, oldest first. Default 85,
    /// from 1 to 100.
    disk_clean_forcibly: u32 = "diskSpaceCleanForciblyRatio", 85, 1..=100;
    /// Percent of the disk at and above which new messages are refused. Default 95, from 1 to 100; RocketMQ's is 90.
    disk_warning: u32 = "diskSpaceWarningLevelRatio", 95, 1..=100;
    /// Whether messages that have not expired may be deleted when the disk is short. Default true.
    clean_forcibly: bool = "cleanFileForciblyEnable", true;

    // ---- the replicated set -----------------------------------------------------------------------------------
    /// All replicas of the set, this one included: `n0-host:port;n1-host:port` (peer ports). Default none.
    raft_peers: String = "raftPeers" | "dLegerPeers", String::new();
    /// This replica's name in the set. Default: `n0` with `raftPeers` or in a set of one; one that joins is given a name.
    raft_self_id: String = "raftSelfId" | "dLegerSelfId", String::new();
    /// Name of the replicated group. Default: brokerName.
    raft_group: String = "raftGroup" | "dLegerGroup", String::new();
    /// RocketMQ's switch for its replicated commitlog; always on here. Default true.
    dleger: bool = "enableDLegerCommitLog", true;
    /// Name of the replica that should lead when it can. Default none.
    preferred_leader: String = "preferredLeaderId", String::new();
    /// Voters the set should have. Default 0: as founded; at most 9.
    replicas: u32 = "raftReplicas", 0, 0..=9;
    /// Whether the leader raises the set's version when all members know a newer one: no older program can be a member then.
    /// Default false: `mqadmin finalizeUpgrade` does it.
    auto_finalize: bool = "autoFinalizeUpgrade", false;
    /// Silence after which a voter is taken out of the set, ms. Default 0: never; else from 5000 to 604800000 (a week).
    evict_after_ms: u64 = "replicaEvictAfterMs", 0, 0..=604_800_000;
    /// Port for the other replicas. Default 0: the port of this replica in `raftPeers`, or listenPort+1 without peers.
    peer_port: u16 = "peerListenPort", 0, 0..=65535;
    /// Local address the peer port listens on. Default: bindAddress.
    peer_bind: String = "peerBindAddress", String::new();
    /// Leader heartbeat, ms. Default 100, from 10 to 10000.
    heartbeat_ms: u64 = "heartbeatIntervalMs", 100, 10..=10_000;
    /// Shortest time without a leader before an election, ms. Default 300, from 50 to 60000.
    election_min_ms: u64 = "electionTimeoutMinMs", 300, 50..=60_000;
    /// Longest time without a leader before an election, ms. Default 600, from 100 to 120000.
    election_max_ms: u64 = "electionTimeoutMaxMs", 600, 100..=120_000;
    /// Whether followers that are far behind are sent the log at a limited rate. Default false.
    catch_up_limited: bool = "haFlowControlEnable", false;
    /// That rate, bytes a second. Default 100 MiB, from 64 KiB to 64 GiB.
    catch_up_rate: u64 = "maxHaTransferByteInSecond", 100 << 20, (64 << 10)..=(64 << 30);
    /// Time a send may take from its arrival to its answer, ms; below the clients' 3 s. Default 2500, from 100 to 60000.
    ack_timeout_ms: u64 = "ackTimeoutMs", 2_500, 100..=60_000;
    /// Time a request waits while there is no leader, ms. Default 2000, from 0 to 60000.
    waiting_room_ms: u64 = "waitingRoomMs", 2_000, 0..=60_000;
    /// Bytes of requests that may wait while there is no leader. Default 64 MiB, from 1 MiB to 4 GiB.
    waiting_room_bytes: usize = "waitingRoomBytes", 64 << 20, (1 << 20)..=(4 << 30);
    /// Longest time a broker that is told to stop goes on serving clients that have not left, ms. Default 35000, from 0 to
    /// 600000.
    drain_timeout_ms: u64 = "drainTimeout", 35_000, 0..=600_000;

    // ---- topics and groups ------------------------------------------------------------------------------------
    /// Whether a send to a missing topic creates it from TBW102. Default true.
    auto_create_topic: bool = "autoCreateTopicEnable", true;
    /// Whether topics may have the attribute message.type=MIXED. Default false.
    mixed_message_type: bool = "enableMixedMessageType", false;
    /// Whether a group is created when it is first used. Default true.
    auto_create_group: bool = "autoCreateSubscriptionGroup", true;
    /// Queues of TBW102, the most an auto-created topic gets. Default 8, from 1 to 1024.
    default_topic_queues: i32 = "defaultTopicQueueNums", 8, 1..=1024;
    /// Whether clients may use the topic that has the cluster's name. Default true.
    cluster_topic: bool = "clusterTopicEnable", true;
    /// Whether clients may use the topic that has the broker's name. Default true.
    broker_topic: bool = "brokerTopicEnable", true;
    /// Whether the trace topic exists. Default false.
    trace_topic: bool = "traceTopicEnable", false;
    /// Name of the trace topic. Default `RMQ_SYS_TRACE_TOPIC`.
    trace_topic_name: String = "msgTraceTopicName", "RMQ_SYS_TRACE_TOPIC".to_owned();
    /// Queues for messages waiting for revival. Default 8, from 1 to 1024.
    revive_queues: i32 = "reviveQueueNum", 8, 1..=1024;
    /// What clients may do here: 2 write, 4 read, 6 both. Default 6, from 0 to 7.
    permission: i32 = "brokerPermission", 6, 0..=7;

    // ---- messages ---------------------------------------------------------------------------------------------
    /// Largest body, bytes. Default 4 MiB, from 1 KiB to 15 MiB (a frame holds 16 MiB).
    max_message_size: usize = "maxMessageSize", 4 << 20, 1024..=(15 << 20);
    /// Delays of levels 1, 2, …: numbers with s, m, h or d. Default RocketMQ's 18 levels.
    delay_levels: DelayLevels = "messageDelayLevel", DelayLevels::default();
    /// Whether a reply is stored, too, once it was handed to whoever waits for it. Default true.
    store_replies: bool = "storeReplyMessageEnable", true;
    /// Whether an administrator's reset of offsets is stored here (true) or told to the consumers, which must be online
    /// then. Default true.
    server_side_reset: bool = "useServerSideResetOffset", true;
    /// Whether transactional sends are refused. Default false.
    reject_transaction: bool = "rejectTransactionMessage", false;
    /// Time before a producer is asked about a transaction that has not ended, ms; a message's CHECK_IMMUNITY_TIME_IN_SECONDS goes
    /// before. Default 6000, from 0 to a day.
    transaction_timeout_ms: u64 = "transactionTimeOut", 6_000, 0..=86_400_000;
    /// How often it is asked before the message goes to TRANS_CHECK_MAX_TIME_TOPIC. Default 15, from 1 to 10000.
    transaction_check_max: u32 = "transactionCheckMax", 15, 1..=10_000;
    /// Time between two looks at transactions that have not ended, ms. Default 30000, from 100 to a day.
    transaction_check_interval_ms: u64 = "transactionCheckInterval", 30_000, 100..=86_400_000;
    /// Whether messages with TIMER_DELIVER_MS, TIMER_DELAY_SEC or TIMER_DELAY_MS are taken. Default true.
    timer_wheel: bool = "timerWheelEnable", true;
    /// Longest such delay, seconds. Default 259200 (three days), from 1 to ten years.
    timer_max_delay_s: i64 = "timerMaxDelaySec", 259_200, 1..=315_360_000;
    /// Whether such messages can be taken back before their time (RECALL_MESSAGE). Default false.
    recall: bool = "recallMessageEnable", false;
    /// Whether that goes on when brokerPermission forbids writing. Default true.
    recall_when_not_writable: bool = "allowRecallWhenBrokerNotWriteable", true;
    /// Sends that are not answered yet; more are told to come back later (SYSTEM_BUSY). Default 200000, from 1 to a million.
    send_capacity: usize = "sendThreadPoolQueueCapacity", 200_000, 1..=1_000_000;

    // ---- pulling ----------------------------------------------------------------------------------------------
    /// Whether pulls without a message wait for one. Default true; false: they wait shortPollingTimeMills.
    long_polling: bool = "longPollingEnable", true;
    /// Longest wait of a pull when longPollingEnable=false, ms. Default 1000, from 1 to 60000.
    short_polling_ms: u64 = "shortPollingTimeMills", 1_000, 1..=60_000;
    /// Whether the 361 form of pulls is served. Default true.
    lite_pull: bool = "litePullMessageEnable", true;
    /// Whether subscriptions may be SQL92 expressions over the properties of messages. Default false.
    property_filter: bool = "enablePropertyFilter", false;
    /// Whether followers serve pulls of committed messages. Default false: they forward them to the master.
    slave_read: bool = "slaveReadEnable", false;
    /// Most bytes in one answer when the messages are in memory. Default 256 KiB, from 1 KiB to 8 MiB.
    max_bytes_memory: usize = "maxTransferBytesOnMessageInMemory", 256 << 10, 1024..=(8 << 20);
    /// Most messages in one answer when they are in memory. Default 32, from 1 to 1024.
    max_count_memory: usize = "maxTransferCountOnMessageInMemory", 32, 1..=1024;
    /// Most bytes in one answer when the messages are on disk. Default 64 KiB, from 1 KiB to 8 MiB.
    max_bytes_disk: usize = "maxTransferBytesOnMessageInDisk", 64 << 10, 1024..=(8 << 20);
    /// Most messages in one answer when they are on disk. Default 8, from 1 to 1024.
    max_count_disk: usize = "maxTransferCountOnMessageInDisk", 8, 1..=1024;
    /// Share of physical memory, percent, that the newest messages are expected to occupy. Default 40, from 1 to 100.
    memory_ratio: u64 = "accessMessageInMemoryMaxRatio", 40, 1..=100;
    /// Accepted: messages are always sent from where they lie, without a copy. Default true.
    transfer_by_heap: bool = "transferMsgByHeap", true;

    // ---- metrics and health -----------------------------------------------------------------------------------
    /// `PROM`: `/metrics`, `/healthz` and `/readyz` are served over HTTP. Default `DISABLE`.
    metrics_exporter: MetricsExporter = "metricsExporterType", MetricsExporter::Disable;
    /// Whether `/healthz` and `/readyz` are served there without metrics too. Default false.
    health_check: bool = "healthCheckEnable", false;
    /// Port of these. Default 5557; 0 lets the system choose.
    http_port: u16 = "metricsPromExporterPort", 5557, 0..=65535;
    /// Local address that port listens on. Default: bindAddress.
    http_host: String = "metricsPromExporterHost", String::new();

    // ---- clients ----------------------------------------------------------------------------------------------
    /// Whether consumers are told when their group changes. Default true.
    notify_ids_changed: bool = "notifyConsumerIdsChangedEnable", true;
    /// Time without a heartbeat after which a client is forgotten, ms. Default 120000, from 1000 to 600000.
    channel_expired_ms: u64 = "channelExpiredTimeout", 120_000, 1_000..=600_000;
    /// Time without traffic after which a connection is closed, s. Default 120, from 1 to 3600.
    channel_idle_s: u64 = "serverChannelMaxIdleTimeSeconds", 120, 1..=3_600;
    /// Threads for client connections. Default 0: one for two processors; at most 256.
    worker_threads: usize = "serverWorkerThreads", 0, 0..=256;
}

/// Characters of a bad line that are shown.
const SHOWN: usize = 60;

/// Whether a key of TLS or access control is there only to switch it off.
fn is_switched_off(key: &str, value: &str) -> bool {
    asks_for_security(key, "true") && !asks_for_security(key, value)
}

/// Least `replicaEvictAfterMs` besides 0: a restart must not cost a replica its place.
const MIN_EVICT_MS: u64 = 5_000;

/// One entry of `raftPeers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// `n0`
    pub name: String,
    /// `host:port` of its peer port.
    pub addr: String,
}

/// What reading a file had to say besides the settings.
#[derive(Debug, Default)]
pub struct Notes {
    /// Things the operator should look at, for example unknown keys.
    pub warnings: Vec<String>,
    /// Things that are fine and worth a line.
    pub infos: Vec<String>,
}

impl Config {
    /// Reads a properties file. Errors: the file cannot be read, a line is no setting, or a value is bad.
    pub fn load(path: &Path) -> Result<(Config, Notes), BrokerError> {
        let unreadable = |reason: String| BrokerError::ConfigFile {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        let mut last: HashMap<String, (String, usize)> = HashMap::new();
        let ascii = raftmq_remoting::settings_text::ascii(&text);
        for line in java_properties::PropertiesIter::new(&ascii[..]) {
            let line = line.map_err(|e| unreadable(e.to_string()))?;
            let number = line.line_number();
            let LineContent::KVPair(key, value) = line.consume_content() else {
                continue;
            };
            // Java would take the first blank for the separator, and so any sentence for a setting.
            let written = number.checked_sub(1).and_then(|i| lines.get(i));
            if written.is_some_and(|l| !l.contains(&b'=') && !l.contains(&b':')) {
                let shown: String = key.chars().take(SHOWN).collect();
                let reason = format!("line {number} is not key=value: it begins with {shown:?}");
                return Err(unreadable(reason));
            }
            last.insert(key, (value, number));
        }
        let pairs = last
            .into_iter()
            .map(|(key, (value, line))| (line, key, value));
        Self::from_pairs(pairs.collect(), |line| {
            format!("{}:{line}: ", path.display())
        })
    }

    /// Settings from keys and values.
    pub fn from_map(map: HashMap<String, String>) -> Result<(Config, Notes), BrokerError> {
        let pairs = map.into_iter().map(|(key, value)| (0, key, value));
        Self::from_pairs(pairs.collect(), |_| String::new())
    }

    /// Settings from lines, keys and values; `at` says where a line is.
    fn from_pairs(
        mut pairs: Vec<(usize, String, String)>,
        at: impl Fn(usize) -> String,
    ) -> Result<(Config, Notes), BrokerError> {
        let mut config = Config::default();
        let mut notes = Notes::default();
        pairs.sort();
        for (line, key, value) in &pairs {
            let (key, value) = (key.trim(), value.trim());
            let refused = |expected: &str| {
                Err(BrokerError::BadSetting {
                    key: format!("{}{key}", at(*line)),
                    value: value.into(),
                    expected: expected.into(),
                })
            };
            if asks_for_security(key, value) {
                return refused(
                    "that it is left out, or false: TLS and access control are not available yet, and this broker does \
                     not start without what its settings ask for",
                );
            }
            if let Some((_, _, expected)) =
                REFUSED.iter().find(|(k, v, _)| *k == key && *v == value)
            {
                return refused(expected);
            }
            let known = config.set(key, value)?;
            if let Some((_, note)) = NOTED.iter().find(|(k, _)| *k == key) {
                notes.infos.push(format!("{key}={value}: {note}"));
            } else if !known && (is_unused(key) || is_switched_off(key, value)) {
                notes.infos.push(format!(
                    "{key} is a RocketMQ setting that this broker does not need; ignored"
                ));
            } else if !known {
                let meant = match meant(key, Self::KEYS.iter().copied()) {
                    Some(meant) => format!("; did you mean {meant}?"),
                    None => String::new(),
                };
                let at = at(*line);
                notes
                    .warnings
                    .push(format!("{at}unknown setting {key}; ignored{meant}"));
            }
        }
        config.check()?;
        Ok((config, notes))
    }

    /// Relations between settings. Error: one of them cannot work with the others.
    pub fn check(&self) -> Result<(), BrokerError> {
        let bad = |key: &str, value: &dyn Display, expected: &str| {
            Err(BrokerError::BadSetting {
                key: key.into(),
                value: value.to_string(),
                expected: expected.into(),
            })
        };
        if self.name.is_empty() {
            return bad("brokerName", &self.name, "a name that is not empty");
        }
        if self.cluster.is_empty() {
            return bad(
                "brokerClusterName",
                &self.cluster,
                "a name that is not empty",
            );
        }
        if (1..=3).contains(&self.listen_port) {
            return bad(
                "listenPort",
                &self.listen_port,
                "0 or a port from 4 to 65535, its second port is 2 lower",
            );
        }
        if self.bind_ip().is_none() {
            return bad("bindAddress", &self.bind_address, "an IP address");
        }
        if self.ip1.parse::<IpAddr>().is_err() {
            return bad(
                "brokerIP1",
                &self.ip1,
                "an IP address: it becomes part of message ids",
            );
        }
        if !self.peer_bind.is_empty() && self.peer_bind.parse::<IpAddr>().is_err() {
            return bad("peerBindAddress", &self.peer_bind, "an IP address");
        }
        if !self.http_host.is_empty() && self.http_host.parse::<IpAddr>().is_err() {
            return bad("metricsPromExporterHost", &self.http_host, "an IP address");
        }
        if self.election_min_ms <= self.heartbeat_ms {
            return bad(
                "electionTimeoutMinMs",
                &self.election_min_ms,
                "more than heartbeatIntervalMs",
            );
        }
        if self.election_max_ms <= self.election_min_ms {
            return bad(
                "electionTimeoutMaxMs",
                &self.election_max_ms,
                "more than electionTimeoutMinMs",
            );
        }
        for addr in self.name_servers() {
            if split_host_port(&addr).is_none() {
                return bad(
                    "namesrvAddr",
                    &self.namesrv_addr,
                    "host:port entries separated by ;",
                );
            }
        }
        let peers = self.peers()?;
        if !peers.is_empty() && !peers.iter().any(|p| p.name == self.self_name(false)) {
            return bad(
                "raftSelfId",
                &self.raft_self_id,
                "one of the names in raftPeers",
            );
        }
        let majority = peers.len() as u32 / 2 + 1;
        if self.in_sync > majority {
            let expected = format!(
                "at most {majority}, the majority of raftPeers that SYNC_MASTER waits for; to wait for more replicas set \
                 ackQuorum=all and minInSyncReplicas"
            );
            return bad("inSyncReplicas", &self.in_sync, &expected);
        }
        if (1..MIN_EVICT_MS).contains(&self.evict_after_ms) {
            let expected = format!("0 or a whole number of at least {MIN_EVICT_MS}");
            return bad("replicaEvictAfterMs", &self.evict_after_ms, &expected);
        }
        Ok(())
    }

    /// `raftPeers` taken apart. Error: an entry is not `name-host:port`, or a name occurs twice.
    pub fn peers(&self) -> Result<Vec<PeerEntry>, BrokerError> {
        let bad = || BrokerError::BadSetting {
            key: "raftPeers".to_owned(),
            value: self.raft_peers.clone(),
            expected: "entries name-host:port separated by ;, each name once".to_owned(),
        };
        let mut peers: Vec<PeerEntry> = Vec::new();
        for entry in self
            .raft_peers
            .split(';')
            .map(str::trim)
            .filter(|e| !e.is_empty())
        {
            let (name, addr) = entry.split_once('-').ok_or_else(bad)?;
            if name.is_empty()
                || split_host_port(addr).is_none()
                || peers.iter().any(|p| p.name == name)
            {
                return Err(bad());
            }
            peers.push(PeerEntry {
                name: name.to_owned(),
                addr: addr.to_owned(),
            });
        }
        Ok(peers)
    }

    /// The name servers, in the order given.
    pub fn name_servers(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for addr in self
            .namesrv_addr
            .split([';', ','])
            .map(str::trim)
            .filter(|a| !a.is_empty())
        {
            if !all.iter().any(|a| a == addr) {
                all.push(addr.to_owned());
            }
        }
        all
    }

    /// This replica's name in the set; empty when the set is to give it one.
    pub fn self_name(&self, founds_alone: bool) -> &str {
        match self.raft_self_id.as_str() {
            "" if founds_alone || !self.raft_peers.trim().is_empty() => "n0",
            name => name,
        }
    }

    /// Name of the replicated group.
    pub fn group(&self) -> &str {
        if self.raft_group.is_empty() {
            &self.name
        } else {
            &self.raft_group
        }
    }

    /// Which replicas a send waits for; never [`AckQuorum::Role`].
    pub fn ack(&self) -> AckQuorum {
        match (self.ack_quorum, self.role) {
            (AckQuorum::Role, _) if self.all_ack => AckQuorum::All,
            (AckQuorum::Role, BrokerRole::AsyncMaster) => AckQuorum::Leader,
            (AckQuorum::Role, BrokerRole::SyncMaster) => AckQuorum::Majority,
            (said, _) => said,
        }
    }

    /// Address the client ports listen on.
    pub fn bind_ip(&self) -> Option<IpAddr> {
        self.bind_address.parse().ok()
    }

    /// Address the peer port listens on.
    pub fn peer_bind_ip(&self) -> IpAddr {
        self.peer_bind
            .parse()
            .ok()
            .or_else(|| self.bind_ip())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Where metrics and health are served; `None`: nowhere.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        let on = self.health_check || self.metrics_exporter == MetricsExporter::Prom;
        let host = self.http_host.parse().ok().or_else(|| self.bind_ip());
        let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        on.then(|| SocketAddr::new(host, self.http_port))
    }

    /// Port for the other replicas.
    pub fn peer_listen_port(&self) -> Result<u16, BrokerError> {
        if self.peer_port != 0 {
            return Ok(self.peer_port);
        }
        let own = self
            .peers()?
            .into_iter()
            .find(|p| p.name == self.self_name(false));
        Ok(match own.as_ref().and_then(|p| split_host_port(&p.addr)) {
            Some((_, port)) => port,
            None if self.listen_port == 0 => 0,
            None => self.listen_port.saturating_add(1),
        })
    }

    /// Time from a send's arrival to its answer.
    pub fn ack_timeout(&self) -> Duration {
        Duration::from_millis(self.ack_timeout_ms)
    }

    /// Bytes a second for followers far behind; 0 for no limit.
    pub fn catch_up(&self) -> u64 {
        match self.catch_up_limited {
            true => self.catch_up_rate,
            false => 0,
        }
    }

    /// `host:port` that clients are told, for a server that listens on `port`.
    pub fn advertised(&self, port: u16) -> SocketAddr {
        SocketAddr::new(
            self.ip1.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port,
        )
    }

    /// A loopback address cannot be registered at a name server on another machine: its clients would call themselves.
    pub fn check_registration(&self) -> Result<(), BrokerError> {
        let own: Option<IpAddr> = self.ip1.parse().ok();
        if !own.is_some_and(|ip| ip.is_loopback()) {
            return Ok(());
        }
        match self
            .name_servers()
            .into_iter()
            .find(|a| !is_loopback_host(a))
        {
            Some(namesrv) => Err(BrokerError::LoopbackAdvertised {
                ip: self.ip1.clone(),
                namesrv,
            }),
            None => Ok(()),
        }
    }

    /// `key=value` lines, as GET_BROKER_CONFIG and `-p` show them.
    pub fn to_properties(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.entries() {
            text.push_str(key);
            text.push('=');
            text.push_str(&value);
            text.push('\n');
        }
        text
    }
}

/// The keys `-m` prints.
pub const IMPORTANT: &[&str] = &[
    "ackQuorum",
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerClusterName",
    "brokerIP1",
    "brokerName",
    "brokerRole",
    "flushDiskType",
    "listenPort",
    "maxMessageSize",
    "namesrvAddr",
    "raftPeers",
    "raftSelfId",
    "slaveReadEnable",
    "storePathRootDir",
];

fn split_host_port(addr: &str) -> Option<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty()).then_some((host, port))
}

fn is_loopback_host(addr: &str) -> bool {
    let Some((host, _)) = split_host_port(addr) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The IPv4 address this machine would use to reach another network; connecting a UDP socket sends nothing.
fn default_ip() -> String {
    let outgoing = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match outgoing() {
        Ok(ip) if !ip.is_unspecified() => ip.to_string(),
        _ => Ipv4Addr::LOCALHOST.to_string(),
    }
}

fn default_store_dir() -> String {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    home.join("store").to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
