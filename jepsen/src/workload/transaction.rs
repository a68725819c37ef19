//! Transactions: half messages, some ended by their sender, the others left open until the broker asks. What becomes of each follows
//! from its number, so that whoever is asked knows. In a history a half message that is to be committed is a send: from its
//! acknowledgement on somebody sees to it that it is delivered, once; one that is to be rolled back is never to be seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_client::ReceivedMessage;
use raftmq_remoting::body::{HeartbeatData, ProducerData};
use raftmq_remoting::header::{
    CheckTransactionStateRequestHeader, EndTransactionRequestHeader, SendMessageResponseHeader,
    extra,
};
use raftmq_remoting::message::{parse_offset_msg_id, sysflag};
use raftmq_remoting::{
    ByteStr, ClientOptions, Handler, RemotingClient, RemotingCommand, Request, request_code,
    response_code,
};
use tokio::sync::{Mutex, mpsc};

use super::client::{Shared, Thread};
use super::log::Reader;
use super::requests::{GROUP, unreadable};
use super::{Outgoing, value};
use crate::value::Value;

/// What brokers are to be started with: they ask early, and do not give up.
pub const BROKER: [(&str, &str); 3] = [
    ("transactionTimeOut", "1000"),
    ("transactionCheckInterval", "1000"),
    ("transactionCheckMax", "1000"),
];
/// After the senders stopped: when nobody has asked for so long, nothing is open.
const QUIET: Duration = Duration::from_secs(4);
/// And no longer than this.
const LIMIT: Duration = Duration::from_secs(90);
/// Who answers questions: tasks, and so processes of the history.
pub const ANSWERERS: u32 = 4;
/// Questions that wait for one of them; a broker asks again.
const WAITING: usize = 1024;
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Whether a half message is to be delivered.
pub fn is_committed(message: u64) -> bool {
    value::number(message).is_multiple_of(2)
}

/// Whether its sender leaves it to the broker to ask.
fn is_open(message: u64) -> bool {
    value::number(message) % 4 >= 2
}

/// Where a half message is.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    pub position: i64,
    pub queue_offset: i64,
}

/// Half the threads send, the others read.
pub async fn run(mut thread: Thread) {
    if thread.number % 2 == 1 {
        return Reader::default().run(&mut thread, 0).await;
    }
    let mut outgoing = Outgoing::of(&thread);
    while let Some((queue, message)) = outgoing.next(&mut thread).await {
        if let Some(half) = thread.half(queue, message).await
            && !is_open(message)
        {
            thread.end(message, half, false).await;
        }
    }
}

/// When a broker last asked.
#[derive(Default)]
pub struct LastQuestion(parking_lot::Mutex<Option<Instant>>);

impl LastQuestion {
    /// Waits until brokers have nothing left to ask. Says whether it came to that.
    pub async fn wait(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let since = self.0.lock().map_or(began, |at| at.max(began));
            if since.elapsed() > QUIET {
                return true;
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
        false
    }
}

/// Hands the questions of brokers over.
struct Questions {
    tx: mpsc::Sender<(u64, Half)>,
    set: String,
    last: Arc<LastQuestion>,
}

impl Handler for Questions {
    fn handle(&self, request: Request) {
        if request.cmd.code != request_code::CHECK_TRANSACTION_STATE {
            return;
        }
        *self.last.0.lock() = Some(Instant::now());
        let header = request.cmd.header::<CheckTransactionStateRequestHeader>();
        let body = request.cmd.body.to_bytes();
        let (Ok(header), Ok(messages)) = (header, ReceivedMessage::decode_all(&body, &self.set))
        else {
            return;
        };
        let half = Half {
            position: header.commit_log_offset,
            queue_offset: header.tran_state_table_offset,
        };
        if let Some(message) = messages.first().and_then(|m| value::of_body(&m.body)) {
            // When nobody has time the broker asks again.
            let _ = self.tx.try_send((message, half));
        }
    }
}

/// Tells all brokers that there is somebody to ask, and answers them, as processes from `first` on; for as long as this is polled.
pub async fn answer(shared: Arc<Shared>, first: u32, last: Arc<LastQuestion>) {
    let (tx, rx) = mpsc::channel(WAITING);
    let rx = Arc::new(Mutex::new(rx));
    let mut answerers = tokio::task::JoinSet::new();
    for number in (first..).take(ANSWERERS as usize) {
        let (rx, mut thread) = (rx.clone(), shared.thread(number));
        answerers.spawn(async move {
            loop {
                let Some((message, half)) = rx.lock().await.recv().await else {
                    return;
                };
                thread.end(message, half, true).await;
            }
        });
    }
    let questions = Questions {
        tx,
        set: shared.place.set.clone(),
        last,
    };
    let client = RemotingClient::new(ClientOptions::default(), Some(Arc::new(questions)));
    let heartbeat = HeartbeatData {
        client_id: "jepsen@answers".to_owned(),
        producer_data_set: vec![ProducerData {
            group_name: GROUP.to_owned(),
        }],
        ..HeartbeatData::default()
    };
    let body = serde_json::to_vec(&heartbeat).unwrap_or_default();
    loop {
        for addr in &shared.place.addrs {
            let (client, addr) = (client.clone(), addr.clone());
            let beat = RemotingCommand::request(request_code::HEART_BEAT).with_body(body.clone());
            tokio::spawn(async move {
                if client.invoke(&addr, beat, HEARTBEAT * 4).await.is_err()
                    && let Ok(Ok(channel)) =
                        tokio::time::timeout(Duration::ZERO, client.channel(&addr)).await
                {
                    channel.close("no answer");
                }
            });
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

impl Thread {
    /// Sends a half message. Where it is, when it was acknowledged.
    async fn half(&mut self, q: u32, message: u64) -> Option<Half> {
        self.may_write().await;
        let via = self.via();
        let asked = Value {
            v: Some(message),
            ..Value::queue(q, via)
        };
        let properties = format!(
            "WAIT\u{1}true\u{2}TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{GROUP}\u{2}UNIQ_KEY\u{1}{message:032X}\u{2}"
        );
        let cmd = self.send_request(q, message, properties, sysflag::TRANSACTION_PREPARED);
        self.begin("half", &asked);
        let answer = self.ask(via, cmd, self.stored()).await;
        let half = answer.and_then(|answer| {
            let header: SendMessageResponseHeader = answer.header().map_err(unreadable)?;
            let (_, position) = parse_offset_msg_id(&header.msg_id).map_err(unreadable)?;
            Ok(Half {
                position,
                queue_offset: header.queue_offset,
            })
        });
        match half {
            Ok(half) => {
                self.ok("half", &Value::default());
                Some(half)
            }
            Err(failure) => {
                self.failed("half", &failure, false).await;
                None
            }
        }
    }

    /// Commits or rolls back a half message, as it is to be; `asked` by the broker or not.
    async fn end(&mut self, message: u64, half: Half, asked: bool) {
        self.may_write().await;
        let via = self.via();
        let commit = is_committed(message);
        let what = if commit { "commit" } else { "rollback" };
        let value = Value {
            v: Some(message),
            via: Some(via),
            detail: Some(what.to_owned()),
            ..Value::default()
        };
        let header = EndTransactionRequestHeader {
            producer_group: ByteStr::from_static(GROUP),
            tran_state_table_offset: half.queue_offset,
            commit_log_offset: half.position,
            commit_or_rollback: match commit {
                true => sysflag::TRANSACTION_COMMIT,
                false => sysflag::TRANSACTION_ROLLBACK,
            },
            from_transaction_check: asked,
            msg_id: format!("{message:032X}").into(),
            ..EndTransactionRequestHeader::default()
        };
        let cmd = RemotingCommand::request_with(request_code::END_TRANSACTION, &header)
            .with_ext(extra::BROKER_NAME, &self.shared.place.set);
        self.begin("end", &value);
        match self.ask(via, cmd, &[response_code::SUCCESS]).await {
            Ok(_) => self.ok("end", &Value::default()),
            Err(failure) => self.failed("end", &failure, false).await,
        }
    }
}
