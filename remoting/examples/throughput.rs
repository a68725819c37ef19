//! Echoes small requests over the loopback device and prints the rate: `throughput [seconds] [window] [body bytes]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmq_remoting::header::{SendMessageRequestHeader, SendMessageResponseHeader};
use raftmq_remoting::{
    Channel, ClientOptions, Handler, RemotingClient, RemotingCommand, Request, Server,
    ServerOptions, request_code,
};

struct Answer;

impl Handler for Answer {
    fn handle(&self, request: Request) {
        let header = SendMessageRequestHeader::decode_for(request.cmd.code, &request.cmd.ext);
        let queue_id = header.map_or(-1, |h| h.queue_id);
        let sent = SendMessageResponseHeader {
            msg_id: "0A01020300002A9F0000000000001234".into(),
            queue_id,
            queue_offset: 42,
            ..Default::default()
        };
        request.reply(RemotingCommand::response(0).with_header(&sent));
    }
}

fn ask(channel: Channel, cmd: RemotingCommand, done: Arc<AtomicU64>) {
    channel
        .clone()
        .invoke_with(cmd.clone(), Duration::from_secs(10), move |answer| {
            if answer.is_ok() {
                done.fetch_add(1, Ordering::Relaxed);
                ask(channel, cmd, done);
            }
        });
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let seconds = args.next().transpose()?.unwrap_or(3);
    let window = args.next().transpose()?.unwrap_or(256);
    let body = args.next().transpose()?.unwrap_or(128);
    let server = Server::bind(
        ServerOptions::new(([127, 0, 0, 1], 0).into()),
        Arc::new(Answer),
    )
    .await?;
    let clients: Vec<_> = (0..4)
        .map(|_| RemotingClient::new(ClientOptions::default(), None))
        .collect();
    let done = Arc::new(AtomicU64::new(0));
    let header = SendMessageRequestHeader {
        producer_group: "group".into(),
        topic: "topic".into(),
        default_topic: "TBW102".into(),
        properties: Some(
            "UNIQ_KEY\u{1}7F0000010000000000000000000A0001\u{2}WAIT\u{1}true\u{2}".into(),
        ),
        ..Default::default()
    };
    let mut cmd = RemotingCommand::request(request_code::SEND_MESSAGE_V2)
        .with_body(Bytes::from(vec![1; body as usize]));
    header.encode_v2(&mut cmd.ext);
    for client in &clients {
        let channel = client.channel(&server.local_addr().to_string()).await?;
        (0..window).for_each(|_| ask(channel.clone(), cmd.clone(), done.clone()));
    }
    let start = Instant::now();
    let before = done.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = (done.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} requests/s, client and server together on two threads");
    Ok(())
}
