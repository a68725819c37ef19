//! Whether a broker set takes messages, asked of each of its replicas, all the time: an open loop of tiny sends straight to their
//! addresses, without routes, retries or a client's caution. So what is measured is the set's own outage.
//!
//! A replica that is not the master may pass a send on; an acknowledgement counts whoever gave it, and its offset message id
//! tells who stored it. All sends go to one queue, whose end is asked for, too: neither may ever go back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_remoting::header::{
    GetMaxOffsetRequestHeader, GetMaxOffsetResponseHeader, SendMessageRequestHeader,
    SendMessageResponseHeader,
};
use raftmq_remoting::message::parse_offset_msg_id;
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{
    ByteStr, Channel, ClientOptions, RemotingClient, RemotingCommand, request_code, response_code,
};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::tally::Tally;

/// How often each replica is asked.
const EVERY: Duration = Duration::from_millis(10);
/// Ends that went back of which more is kept than the number.
const MOST_KEPT: usize = 10_000;
/// Longest wait for an answer. With [`EVERY`] it bounds what is under way.
const TIMEOUT: Duration = Duration::from_secs(1);

/// An acknowledged send.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub issued: Instant,
    pub acked: Instant,
    /// Which of the addresses stored it; None when it says another one.
    pub by: Option<usize>,
    pub offset: i64,
}

/// What is looked for: an acknowledgement of a send that was issued after a time and stored by anybody but one.
#[derive(Clone, Copy)]
struct Wanted {
    since: Instant,
    not_by: usize,
}

#[derive(Default)]
struct Seen {
    wanted: Option<Wanted>,
    first: Option<Ack>,
    /// When each replica was last seen to have stored one.
    last: Vec<Option<Instant>>,
    /// The offset after the highest one acknowledged.
    acked_end: i64,
    /// The highest end of the queue that was answered.
    end: i64,
    back: Back,
    went_back: Vec<WentBack>,
}

/// An end of the queue that was answered and lies before one that was known when it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct WentBack {
    /// Which of the addresses was asked.
    pub asked: usize,
    pub issued: Instant,
    pub answered: Instant,
    pub end: i64,
    pub known: i64,
}

/// How often something went back that never may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Back {
    /// Offsets of sends issued after a higher one was acknowledged.
    pub sends: u64,
    /// Ends of the queue asked for after a higher one was answered: what a consumer sees.
    pub ends: u64,
}

struct Target {
    addr: String,
    host: Option<SocketAddr>,
    channel: Mutex<Option<Channel>>,
    connecting: AtomicBool,
}

struct Shared {
    client: RemotingClient,
    targets: Vec<Target>,
    topic: ByteStr,
    set: ByteStr,
    tally: Arc<Tally>,
    seen: Mutex<Seen>,
}

/// Asks until it is dropped.
pub struct Prober {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// Asks the replicas of `set` at `addrs` to store messages of `tally` in queue 0 of `topic`, which must be there.
    pub fn start(addrs: &[String], set: &str, topic: &str, tally: Arc<Tally>) -> Self {
        let target = |addr: &String| Target {
            addr: addr.clone(),
            host: addr.parse().ok(),
            channel: Mutex::default(),
            connecting: AtomicBool::new(false),
        };
        let shared = Arc::new(Shared {
            client: RemotingClient::new(ClientOptions::default(), None),
            targets: addrs.iter().map(target).collect(),
            topic: topic.into(),
            set: set.into(),
            tally,
            seen: Mutex::new(Seen {
                last: vec![None; addrs.len()],
                ..Seen::default()
            }),
        });
        let task = tokio::spawn(run(shared.clone()));
        Self { shared, task }
    }

    /// From now on looks for the first acknowledgement of a send issued after `since` and not stored by the replica `not_by`.
    pub fn look_after(&self, since: Instant, not_by: usize) {
        let mut seen = self.shared.seen.lock();
        seen.wanted = Some(Wanted { since, not_by });
        seen.first = None;
    }

    /// That acknowledgement, if it came.
    pub fn first(&self) -> Option<Ack> {
        self.shared.seen.lock().first
    }

    /// When the newest acknowledgement came of a message that this replica stored.
    pub fn last_by(&self, replica: usize) -> Option<Instant> {
        self.shared.seen.lock().last.get(replica).copied().flatten()
    }

    /// What went back so far.
    pub fn back(&self) -> Back {
        self.shared.seen.lock().back
    }

    /// The ends that went back since this was last called.
    pub fn went_back(&self) -> Vec<WentBack> {
        std::mem::take(&mut self.shared.seen.lock().went_back)
    }

    /// The longest time between two acknowledgements since the last [`Self::forget_gap`].
    pub fn longest_gap(&self) -> Duration {
        self.shared.tally.longest_gap()
    }

    /// Measures [`Self::longest_gap`] anew.
    pub fn forget_gap(&self) {
        self.shared.tally.forget_gap();
    }

    /// Whether every replica is connected, so that none answers late only for that.
    pub fn connected(&self) -> bool {
        let mut targets = self.shared.targets.iter();
        targets.all(|t| t.open_channel().is_some())
    }
}

impl Target {
    fn open_channel(&self) -> Option<Channel> {
        let channel = self.channel.lock();
        channel.as_ref().filter(|c| !c.is_closed()).cloned()
    }
}

async fn run(shared: Arc<Shared>) {
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        clock.tick().await;
        for (replica, target) in shared.targets.iter().enumerate() {
            match target.open_channel() {
                Some(channel) => {
                    shared.send(&channel);
                    shared.ask_end(replica, &channel);
                }
                None if target.connecting.swap(true, Ordering::AcqRel) => {}
                None => {
                    tokio::spawn(connect(shared.clone(), replica));
                }
            }
        }
    }
}

async fn connect(shared: Arc<Shared>, replica: usize) {
    let target = &shared.targets[replica];
    // While one is down, this fails and is tried again at the next tick.
    if let Ok(channel) = shared.client.channel(&target.addr).await {
        *target.channel.lock() = Some(channel);
    }
    target.connecting.store(false, Ordering::Release);
}

impl Shared {
    fn send(self: &Arc<Self>, channel: &Channel) {
        let Some(number) = self.tally.next() else {
            return;
        };
        let header = SendMessageRequestHeader {
            producer_group: ByteStr::from_static("prober"),
            topic: self.topic.clone(),
            default_topic: ByteStr::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: 1,
            queue_id: 0,
            reconsume_times: Some(0),
            properties: Some(ByteStr::from_static("WAIT\u{1}true\u{2}")),
            broker_name: Some(self.set.clone()),
            ..SendMessageRequestHeader::default()
        };
        let mut command = RemotingCommand::request(request_code::SEND_MESSAGE_V2)
            .with_body(self.tally.body(number));
        header.encode_v2(&mut command.ext);
        let shared = self.clone();
        let (issued, before) = (Instant::now(), self.seen.lock().acked_end);
        channel.invoke_with(command, TIMEOUT, move |answer| {
            let Some(answer) = answer.ok().filter(|a| a.code == response_code::SUCCESS) else {
                return;
            };
            shared.tally.acked(number);
            let header = answer.header::<SendMessageResponseHeader>();
            let stored = header.as_ref().ok().and_then(|h| {
                let (host, _) = parse_offset_msg_id(&h.msg_id).ok()?;
                shared.targets.iter().position(|t| t.host == Some(host))
            });
            let ack = Ack {
                issued,
                acked: Instant::now(),
                by: stored,
                offset: header.map_or(-1, |h| h.queue_offset),
            };
            shared.seen.lock().acked(ack, before);
        });
    }

    fn ask_end(self: &Arc<Self>, asked: usize, channel: &Channel) {
        let header = GetMaxOffsetRequestHeader {
            topic: self.topic.clone(),
            queue_id: 0,
            ..GetMaxOffsetRequestHeader::default()
        };
        let command = RemotingCommand::request_with(request_code::GET_MAX_OFFSET, &header);
        let (shared, known) = (self.clone(), self.seen.lock().end);
        let issued = Instant::now();
        channel.invoke_with(command, TIMEOUT, move |answer| {
            let answer = answer.ok().filter(|a| a.code == response_code::SUCCESS);
            let header = answer.and_then(|a| a.header::<GetMaxOffsetResponseHeader>().ok());
            if let Some(header) = header {
                shared.seen.lock().ended(WentBack {
                    asked,
                    issued,
                    answered: Instant::now(),
                    end: header.offset,
                    known,
                });
            }
        });
    }
}

impl Seen {
    /// `before`: the end when it was issued.
    fn acked(&mut self, ack: Ack, before: i64) {
        let wanted = |w: Wanted| ack.issued >= w.since && ack.by != Some(w.not_by);
        if self.first.is_none() && self.wanted.is_some_and(wanted) {
            self.first = Some(ack);
        }
        if let Some(last) = ack.by.and_then(|by| self.last.get_mut(by)) {
            *last = Some(ack.acked);
        }
        self.back.sends += u64::from(ack.offset < before);
        self.acked_end = self.acked_end.max(ack.offset + 1);
    }

    fn ended(&mut self, answer: WentBack) {
        self.end = self.end.max(answer.end);
        if answer.end < answer.known {
            self.back.ends += 1;
            if self.went_back.len() < MOST_KEPT {
                self.went_back.push(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_or_stored_by_the_broken_one_does_not_count() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let ack = |issued, acked, by, offset| Ack {
            issued: at(issued),
            acked: at(acked),
            by: Some(by),
            offset,
        };
        let mut seen = Seen {
            last: vec![None; 2],
            ..Seen::default()
        };
        seen.acked(ack(0, 5, 0, 0), 0);
        assert!(seen.first.is_none());
        seen.wanted = Some(Wanted {
            since: at(10),
            not_by: 0,
        });
        seen.acked(ack(9, 30, 1, 1), 0);
        seen.acked(ack(11, 31, 0, 2), 1);
        assert!(seen.first.is_none());
        seen.acked(ack(12, 40, 1, 3), 2);
        seen.acked(ack(12, 41, 1, 4), 2);
        assert_eq!(seen.first.map(|a| a.acked), Some(at(40)));
        assert_eq!(seen.last, [Some(at(31)), Some(at(41))]);
        assert_eq!(seen.back, Back::default());
    }

    #[test]
    fn what_goes_back_is_noticed() {
        let now = Instant::now();
        let ack = |offset| Ack {
            issued: now,
            acked: now,
            by: None,
            offset,
        };
        let mut seen = Seen::default();
        seen.acked(ack(5), 0);
        seen.acked(ack(4), 4);
        seen.acked(ack(5), 6);
        for (end, known) in [(7, 0), (6, 6), (6, 7)] {
            seen.ended(WentBack {
                asked: 0,
                issued: now,
                answered: now,
                end,
                known,
            });
        }
        assert_eq!(seen.back, Back { sends: 1, ends: 1 });
    }
}
