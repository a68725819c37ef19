//! The name server's settings: one struct, one place of defaults, RocketMQ's key names.
//!
//! They come from a Java properties file and, for some keys, from UPDATE_NAMESRV_CONFIG (318) while the server runs. Where RocketMQ
//! writes its properties file anew for such a change, here the file stays its owner's: changes are kept beside the key-value
//! configuration, and laid over the file at every start.

use std::io::BufReader;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use raftmq_remoting::validate::asks_for_security;

use crate::error::ConfigError;

/// Keys of the Java name server that have nothing to act on here: accepted, without effect.
const JAVA_ONLY: &[&str] = &[
    "clientRequestThreadPoolNums",
    "clientRequestThreadPoolQueueCapacity",
    "clusterTest",
    "defaultThreadPoolNums",
    "defaultThreadPoolQueueCapacity",
    "enableControllerInNamesrv",
    "enableShutdownGracefully",
    "enableTransactionService",
    "productEnvName",
    "rocketmqHome",
    "serverAsyncSemaphoreValue",
    "serverCallbackExecutorThreads",
    "serverNettyWorkerGroupEnable",
    "serverOnewaySemaphoreValue",
    "serverPooledByteBufAllocatorEnable",
    "serverSelectorThreads",
    "serverSocketBacklog",
    "serverSocketRcvBufSize",
    "serverSocketSndBufSize",
    "serverWorkerThreads",
    "shutdownWaitTimeSeconds",
    "unRegisterBrokerQueueCapacity",
    "useEpollNativeSelector",
    "writeBufferHighWaterMark",
    "writeBufferLowWaterMark",
];

/// Whether a key may change while the server runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Live,
    Fixed,
}

/// A type a setting may have.
trait Setting: Sized {
    fn read(text: &str, range: Option<&RangeInclusive<u64>>) -> Result<Self, String>;
    fn show(&self) -> String;
}

impl Setting for bool {
    fn read(text: &str, _: Option<&RangeInclusive<u64>>) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".into()),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    fn read(text: &str, range: Option<&RangeInclusive<u64>>) -> Result<Self, String> {
        let whole = &(0..=u64::MAX);
        let range = range.unwrap_or(whole);
        match text.parse() {
            Ok(n) if range.contains(&n) => Ok(n),
            _ => Err(format!(
                "a number from {} to {}",
                range.start(),
                range.end()
            )),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for IpAddr {
    fn read(text: &str, _: Option<&RangeInclusive<u64>>) -> Result<Self, String> {
        text.parse().map_err(|_| "an IPv4 or IPv6 address".into())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for PathBuf {
    fn read(text: &str, _: Option<&RangeInclusive<u64>>) -> Result<Self, String> {
        if text.is_empty() {
            Err("a path".into())
        } else {
            Ok(text.into())
        }
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for String {
    fn read(text: &str, _: Option<&RangeInclusive<u64>>) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

struct Key {
    name: &'static str,
    change: Change,
    set: fn(&mut NamesrvConfig, &str) -> Result<(), String>,
    show: fn(&NamesrvConfig) -> String,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $ty:ty = $key:literal, $default:expr, $change:ident $(, $range:expr)?;)*) => {
        /// Every setting. Each field's documentation gives RocketMQ's key, the default and the unit.
        #[derive(Clone, Debug, PartialEq)]
        pub struct NamesrvConfig {
            $($(#[$doc])* #[doc = concat!("\n\nKey `", $key, "`, default `", stringify!($default), "`.")] pub $field: $ty,)*
        }

        impl Default for NamesrvConfig {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        const KEYS: &[Key] = &[$(Key {
            name: $key,
            change: Change::$change,
            set: |config, text| {
                #[allow(unused_mut, unused_assignments)]
                let mut range = None;
                $(range = Some(&$range);)?
                config.$field = <$ty as Setting>::read(text, range)?;
                Ok(())
            },
            show: |config| config.$field.show(),
        },)*];
    };
}

settings! {
    /// Address the listener binds.
    bind_address: IpAddr = "bindAddress", IpAddr::V4(Ipv4Addr::UNSPECIFIED), Fixed;
    /// Keys that UPDATE_NAMESRV_CONFIG may not touch, joined with `;`.
    config_black_list: String = "configBlackList", "configBlackList;configStorePath;kvConfigPath".to_owned(), Fixed;
    /// The file the settings came from; only shown.
    config_store_path: PathBuf = "configStorePath", home().join("namesrv/namesrv.properties"), Fixed;
    /// Whether a topic that a master no longer registers loses its queues at that broker.
    delete_topic_with_broker_registration: bool = "deleteTopicWithBrokerRegistration", false, Live;
    /// Whether GET_ALL_TOPIC_LIST_FROM_NAMESERVER is answered.
    enable_all_topic_list: bool = "enableAllTopicList", true, Live;
    /// Whether the topic lists by cluster, of system topics and of unit topics are answered.
    enable_topic_list: bool = "enableTopicList", true, Live;
    /// Where the key-value configuration is kept.
    kv_config_path: PathBuf = "kvConfigPath", home().join("namesrv/kvConfig.json"), Fixed;
    /// Port of the listener; 0 picks a free one.
    listen_port: u64 = "listenPort", 9876, Fixed, 0..=65_535;
    /// Whether routes are refused for `waitSecondsForService` after the start, until brokers had time to register.
    need_wait_for_service: bool = "needWaitForService", false, Live;
    /// Whether the members of a set are told when their lowest broker id changes.
    notify_min_broker_id_changed: bool = "notifyMinBrokerIdChanged", false, Live;
    /// Whether routes carry the order configuration of their topic.
    order_message_enable: bool = "orderMessageEnable", false, Live;
    /// Whether registrations are answered with the order configuration.
    return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker", true, Live;
    /// How often silent brokers are looked for, milliseconds.
    scan_not_active_broker_interval: u64 = "scanNotActiveBrokerInterval", 5000, Live, 100..=600_000;
    /// A connection without traffic is closed after this, seconds.
    server_channel_max_idle_time_seconds: u64 = "serverChannelMaxIdleTimeSeconds", 120, Fixed, 1..=86_400;
    /// Whether the lowest id of a set without master is shown as its master, for sets that ask for it.
    support_acting_master: bool = "supportActingMaster", false, Live;
    /// See `needWaitForService`; seconds.
    wait_seconds_for_service: u64 = "waitSecondsForService", 45, Live, 0..=3600;
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

impl NamesrvConfig {
    /// The defaults changed by the properties file at `path`. An unknown key is a warning in the log.
    ///
    /// # Errors
    /// The file cannot be read, or a value is out of its range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(read)?;
        let mut config = Self {
            config_store_path: path.to_owned(),
            ..Self::default()
        };
        for (name, value) in parse(BufReader::new(file))? {
            if asks_for_security(&name, &value) {
                return Err(ConfigError::Security(name));
            }
            match KEYS.iter().find(|k| k.name == name) {
                Some(key) => config.set(key, &value)?,
                None if JAVA_ONLY.contains(&name.as_str()) => {
                    tracing::info!(key = name, "this key has no effect here");
                }
                None => tracing::warn!(key = name, file = %path.display(), "unknown key, ignored"),
            }
        }
        Ok(config)
    }

    /// The changes of a properties text that are possible while the server runs, if all of them are.
    ///
    /// # Errors
    /// The first key that is black-listed, fixed, unknown or has a bad value.
    pub fn changes(&self, properties: &[u8]) -> Result<Vec<(String, String)>, ConfigError> {
        let mut changes = Vec::new();
        for (name, value) in parse(properties)? {
            if self.config_black_list.split(';').any(|k| k.trim() == name) {
                return Err(ConfigError::BlackList);
            }
            match KEYS.iter().find(|k| k.name == name) {
                Some(key) if key.change == Change::Fixed && (key.show)(self) != value.trim() => {
                    return Err(ConfigError::Fixed(key.name));
                }
                Some(key) if key.change == Change::Fixed => {}
                Some(key) => {
                    self.clone().set(key, &value)?;
                    changes.push((name, value.trim().to_owned()));
                }
                None if JAVA_ONLY.contains(&name.as_str()) => {
                    tracing::info!(key = name, "this key has no effect here");
                }
                None => return Err(ConfigError::UnknownKey(name)),
            }
        }
        Ok(changes)
    }

    /// With such changes. What is no setting of this version, or cannot change while the server runs, is a warning in the log.
    #[must_use]
    pub fn with<'a>(&self, changes: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut config = self.clone();
        for (name, value) in changes {
            let live = |key: &&Key| key.name == name && key.change == Change::Live;
            let done = match KEYS.iter().find(live) {
                Some(key) => config.set(key, value),
                None => Err(ConfigError::UnknownKey(name.clone())),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "a change made while the server ran is not taken");
            }
        }
        config
    }

    /// Where changes made while the server runs are kept.
    pub fn changes_path(&self) -> PathBuf {
        self.kv_config_path.with_extension("namesrv.json")
    }

    fn set(&mut self, key: &Key, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        (key.set)(self, value).map_err(|wanted| ConfigError::Value {
            key: key.name,
            value: value.chars().take(100).collect(),
            wanted,
        })
    }

    /// All settings as `key=value` lines, sorted by key.
    pub fn to_properties(&self) -> String {
        KEYS.iter()
            .map(|key| format!("{}={}\n", key.name, (key.show)(self)))
            .collect()
    }

    /// Where to listen.
    pub fn listen_addr(&self) -> SocketAddr {
        SocketAddr::new(
            self.bind_address,
            u16::try_from(self.listen_port).unwrap_or(0),
        )
    }
}

/// The pairs of a properties text, in order.
fn parse(mut text: impl std::io::Read) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Vec::new();
    let mut bytes = Vec::new();
    let read = text.read_to_end(&mut bytes);
    read.map_err(|e| ConfigError::Syntax(e.to_string()))?;
    let ascii = raftmq_remoting::settings_text::ascii(&bytes);
    java_properties::PropertiesIter::new(&ascii[..])
        .read_into(|name, value| pairs.push((name, value)))
        .map_err(|e| ConfigError::Syntax(e.to_string()))?;
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<NamesrvConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        NamesrvConfig::load(file.path())
    }

    #[test]
    fn a_text_that_breaks_off_within_a_byte_order_mark_is_read() {
        for text in [
            &b"\xef"[..],
            b"\xef\xbb",
            b"\xfe\xff\0",
            b"\xff\xfea",
            b"\xfe",
        ] {
            let pairs = parse(text).unwrap();
            assert!(pairs.len() <= 1, "{pairs:?}");
        }
    }

    #[test]
    fn a_file_changes_the_defaults() {
        let config =
            load("# comment\nlistenPort = 1234\nbindAddress=127.0.0.1\norderMessageEnable=TRUE\n")
                .unwrap();
        assert_eq!(config.listen_addr(), "127.0.0.1:1234".parse().unwrap());
        assert!(config.order_message_enable);
        assert_eq!(
            NamesrvConfig::default().listen_addr(),
            "0.0.0.0:9876".parse().unwrap()
        );
    }

    #[test]
    fn java_keys_and_unknown_keys_are_no_error() {
        assert_eq!(
            load("serverWorkerThreads=8\nnonsense=1\n")
                .unwrap()
                .listen_port,
            9876
        );
    }

    #[test]
    fn a_bad_value_names_key_value_and_range() {
        for (text, error) in [
            (
                "listenPort=70000",
                "listenPort=70000: a number from 0 to 65535 is wanted",
            ),
            (
                "listenPort=abc",
                "listenPort=abc: a number from 0 to 65535 is wanted",
            ),
            (
                "orderMessageEnable=yes",
                "orderMessageEnable=yes: true or false is wanted",
            ),
            (
                "bindAddress=localhost",
                "bindAddress=localhost: an IPv4 or IPv6 address is wanted",
            ),
            (
                "scanNotActiveBrokerInterval=1",
                "scanNotActiveBrokerInterval=1: a number from 100 to 600000 is wanted",
            ),
        ] {
            assert_eq!(load(text).unwrap_err().to_string(), error);
        }
        assert!(
            load("a=\\u12")
                .unwrap_err()
                .to_string()
                .starts_with("not a properties text")
        );
        assert!(matches!(
            NamesrvConfig::load(Path::new("/nonexistent")),
            Err(ConfigError::Read { .. })
        ));
    }

    #[test]
    fn an_update_is_taken_whole_or_not_at_all() {
        let config = NamesrvConfig::default();
        let changes = config
            .changes(b"orderMessageEnable= true\nlistenPort=9876\nserverWorkerThreads=2")
            .unwrap();
        assert_eq!(
            changes,
            [("orderMessageEnable".to_owned(), "true".to_owned())]
        );
        let changed = config.with(changes.iter().map(|(k, v)| (k, v)));
        assert!(changed.order_message_enable);
        assert!(matches!(
            config.changes(b"kvConfigPath=/tmp/x"),
            Err(ConfigError::BlackList)
        ));
        assert!(matches!(
            config.changes(b"listenPort=1"),
            Err(ConfigError::Fixed("listenPort"))
        ));
        assert!(matches!(
            config.changes(b"foo=1"),
            Err(ConfigError::UnknownKey(_))
        ));
        assert!(matches!(
            config.changes(b"enableTopicList=false\norderMessageEnable=x"),
            Err(ConfigError::Value { .. })
        ));
        assert_eq!(config.changes(b"").unwrap(), []);
    }

    #[test]
    fn what_another_version_kept_is_no_error() {
        let config = NamesrvConfig::default();
        let kept = [
            ("gone", "1"),
            ("listenPort", "1"),
            ("enableTopicList", "x"),
            ("orderMessageEnable", "true"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let changed = config.with(kept.iter().map(|(k, v)| (k, v)));
        let expected = NamesrvConfig {
            order_message_enable: true,
            ..config
        };
        assert_eq!(changed, expected);
    }

    #[test]
    fn what_is_shown_can_be_read() {
        let shown = NamesrvConfig::default().to_properties();
        assert!(
            shown.contains("listenPort=9876\n")
                && shown.contains("deleteTopicWithBrokerRegistration=false\n")
        );
        assert!(shown.lines().is_sorted());
        let read = load(&shown).unwrap();
        assert_eq!(read.to_properties(), shown);
    }
}
