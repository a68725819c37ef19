//! What every handle of this crate is configured with.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name servers and timing.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port`, several joined with `;`.
    pub namesrv_addrs: String,
    /// How often known routes are asked for again (Java's `pollNameServerInterval`); 30 s.
    pub poll_name_server_interval: Duration,
    /// How often brokers hear of this client; 30 s. They forget a client after 120 s.
    pub heartbeat_broker_interval: Duration,
    /// Limit of a request that has no limit of its own; 3 s.
    pub request_timeout: Duration,
    /// Limit of a connection attempt; 3 s.
    pub connect_timeout: Duration,
    /// Middle part of the client id; by default unique in the world.
    pub instance_name: Option<String>,
}

impl ClientConfig {
    /// The defaults with these name servers.
    pub fn new(namesrv_addrs: impl Into<String>) -> Self {
        Self {
            namesrv_addrs: namesrv_addrs.into(),
            poll_name_server_interval: Duration::from_secs(30),
            heartbeat_broker_interval: Duration::from_secs(30),
            request_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(3),
            instance_name: None,
        }
    }

    /// `ip@instance`, the name under which brokers know this client.
    pub(crate) fn client_id(&self) -> String {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let instance = self.instance_name.clone().unwrap_or_else(|| {
            let nanos = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_nanos());
            format!(
                "{}#{nanos}{}",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed)
            )
        });
        format!("{}@{instance}", own_ip())
    }
}

/// The address the system would reach other machines from; no packet is sent.
fn own_ip() -> String {
    let found = UdpSocket::bind("0.0.0.0:0")
        .and_then(|s| s.connect("192.0.2.1:9").and_then(|()| s.local_addr()));
    found.map_or_else(|_| "127.0.0.1".into(), |addr| addr.ip().to_string())
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
