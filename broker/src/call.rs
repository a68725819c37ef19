//! `Call`: one client request on its way through the broker, with where it came from and until when it may take.
//!
//! A call is answered exactly once, by whoever holds it; an unanswered oneway is simply dropped. A call that another
//! replica passed on carries a hop mark: it is served or refused here, never passed on again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use raftmq_remoting::channel::Channel;
use raftmq_remoting::codes::response;
use raftmq_remoting::command::{Body, RemotingCommand};
use raftmq_remoting::ext::ExtFields;
use raftmq_remoting::frame::Answer;
use raftmq_remoting::header::HeaderError;
use raftmq_remoting::server::{Replier, Request};

use crate::large_answers::Ticket;

/// Extension fields a replica adds when it passes a request on.
pub mod hop {
    /// Number of replicas the request came through: 1.
    pub const COUNT: &str = "__RAFTMQ_HOP";
    /// Term in which the sender knew its leader.
    pub const TERM: &str = "__RAFTMQ_TERM";
    /// Milliseconds left until the request's deadline.
    pub const LEFT_MS: &str = "__RAFTMQ_LEFT_MS";
    /// Address of the client, for the born host.
    pub const CLIENT: &str = "__RAFTMQ_CLIENT";
    /// In an answer: nothing was stored, the request may be tried again elsewhere.
    pub const REFUSED: &str = "__RAFTMQ_REFUSED";
}

/// A deadline further away than this would let a client park requests here at will.
const MAX_LEFT: Duration = Duration::from_secs(120);

/// Remark of a send whose outcome is not known, as RocketMQ's replicated store words it.
pub const OUTCOME_UNKNOWN: &str = "in-sync replicas not enough, outcome unknown";

/// One request being served.
pub struct Call {
    pub cmd: RemotingCommand,
    replier: Replier,
    /// The client that sent the request first; not the replica that passed it on.
    pub client: SocketAddr,
    /// Another replica passed this request on, in this term.
    pub hop_term: Option<u64>,
    pub arrived: Instant,
    /// When the answer is due.
    pub deadline: Instant,
    /// How often the request was started over, for example after its topic was created.
    pub restarts: u8,
    /// Its place among the requests with large answers, if it is one of them.
    pub large: Option<Ticket>,
}

impl Call {
    /// Takes a request from the server; it is due after `time` unless a hop mark says otherwise.
    pub fn new(request: Request, time: Duration) -> Self {
        let (cmd, replier) = request.split();
        let arrived = Instant::now();
        let mut client = canonical(replier.channel().remote());
        let mut left = time;
        let hop_term = cmd.ext.get(hop::COUNT).map(|_| {
            if let Some(addr) = cmd.ext.get(hop::CLIENT).and_then(|a| a.parse().ok()) {
                client = addr;
            }
            if let Some(ms) = cmd.ext.get(hop::LEFT_MS).and_then(|ms| ms.parse().ok()) {
                left = Duration::from_millis(ms).min(MAX_LEFT);
            }
            cmd.ext
                .get(hop::TERM)
                .and_then(|t| t.parse().ok())
                .unwrap_or(0)
        });
        Self {
            cmd,
            replier,
            client,
            hop_term,
            arrived,
            deadline: arrived + left,
            restarts: 0,
            large: None,
        }
    }

    /// The connection the request came on.
    pub fn channel(&self) -> &Channel {
        self.replier.channel()
    }

    pub fn is_oneway(&self) -> bool {
        self.cmd.is_oneway()
    }

    /// Memory the request holds while it waits, bytes, roughly.
    pub fn bytes(&self) -> usize {
        const FIXED: usize = 512;
        FIXED + self.replier.size().max(self.cmd.body.len())
    }

    /// What its connection is charged for it until it is answered, bytes.
    pub fn charged(&self) -> usize {
        self.replier.size()
    }

    /// Gives up the body, which nobody will read.
    pub fn drop_body(&mut self) {
        let left = self.replier.size().saturating_sub(self.cmd.body.len());
        self.cmd.body = Body::Empty;
        self.replier.shrink(left);
    }

    /// Gives up the fields for others of the same meaning. Only where nobody shares the memory of the old ones any more.
    pub fn replace_fields(&mut self, ext: ExtFields) {
        const FIXED: usize = 512;
        let texts: usize = ext.iter().map(|(name, text)| name.len() + text.len()).sum();
        self.cmd.ext = ext;
        self.replier.shrink(FIXED + 2 * texts);
    }

    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Answers.
    pub fn reply(self, mut response: RemotingCommand) {
        if let Some(ticket) = &self.large {
            ticket.count(&mut response);
        }
        self.replier.reply(response);
    }

    /// Answers, written down at once.
    pub fn reply_with(self, answer: &Answer<'_>) {
        self.replier.reply_with(answer);
    }

    /// Answers success without header and body.
    pub fn ok(self) {
        self.reply(RemotingCommand::response(response::SUCCESS));
    }

    /// Answers with a code and a reason.
    pub fn error(self, code: i32, remark: impl Into<String>) {
        self.reply(RemotingCommand::response(code).with_remark(remark));
    }

    /// Answers that the header cannot be read.
    pub fn bad_header(self, error: HeaderError) {
        self.error(response::SYSTEM_ERROR, error.to_string());
    }

    /// Answers that nothing was done because no leader could be reached; a replica that passed the request on may try
    /// again.
    pub fn refuse(self, remark: &str) {
        let mut answer =
            RemotingCommand::response(response::SERVICE_NOT_AVAILABLE).with_remark(remark);
        if self.hop_term.is_some() {
            answer.ext.set(hop::REFUSED, "true");
        }
        self.reply(answer);
    }
}

/// An IPv4 address in IPv6 clothes is an IPv4 address: it is stored in 4 bytes and compared as such.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
