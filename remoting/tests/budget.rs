//! The memory that connections share: who fills it is not read, everybody else is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_remoting::{
    Budget, ClientOptions, Handler, RemotingClient, RemotingCommand, Replier, Request, Server,
    ServerOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ECHO: i32 = 1;
const HOLD: i32 = 3;
const LIMIT: usize = 8 << 20;
const MIB: usize = 1 << 20;

/// Answers, or keeps what it is asked.
#[derive(Default)]
struct Service {
    held: Mutex<Vec<(RemotingCommand, Replier)>>,
}

impl Handler for Service {
    fn handle(&self, request: Request) {
        match request.cmd.code {
            HOLD => self.held.lock().push(request.split()),
            _ => {
                let reply = RemotingCommand::reply_to(&request.cmd, 0);
                request.reply(reply);
            }
        }
    }
}

async fn serve() -> (Server, Arc<Service>, Arc<Budget>, String) {
    let mut options = ServerOptions::new("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    let budget = Arc::new(Budget::new(LIMIT));
    options.budget = budget.clone();
    let service = Arc::new(Service::default());
    let server = Server::bind(options, service.clone()).await.unwrap();
    let addr = server.local_addr().to_string();
    (server, service, budget, addr)
}

async fn ask(client: &RemotingClient, addr: &str, body: usize) -> Result<Duration, String> {
    let start = Instant::now();
    let request = RemotingCommand::request(ECHO).with_body(vec![1; body]);
    let answer = client.invoke(addr, request, Duration::from_secs(20)).await;
    answer.map(|_| start.elapsed()).map_err(|e| e.to_string())
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Half of a frame of 16 MiB, as much of it as is taken.
async fn half_a_frame(addr: String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(&(16 * MIB as u32).to_be_bytes())
        .await
        .unwrap();
    let part = vec![0; 64 << 10];
    for _ in 0..8 * MIB / part.len() {
        if stream.write_all(&part).await.is_err() {
            return;
        }
    }
    let _ = stream.read(&mut [0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_frames_starve_nobody_and_are_closed() {
    let (server, _service, budget, addr) = serve().await;
    let slow: Vec<_> = (0..100)
        .map(|_| tokio::spawn(half_a_frame(addr.clone())))
        .collect();
    eventually("the budget is used up", || budget.paused() > 10).await;
    let client = RemotingClient::new(ClientOptions::default(), None);
    let mut most = 0;
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let took = ask(&client, &addr, 1000)
            .await
            .expect("served all the time");
        assert!(took < Duration::from_secs(5), "{took:?}");
        most = most.max(budget.used());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The limit, floors of 64 KiB, two frames that may be finished, and reads under way.
    assert!(most < LIMIT + 100 * (128 << 10) + 2 * 16 * MIB, "{most}");
    // They do not get on, so they are closed, and large requests are served again.
    ask(&client, &addr, 4 * MIB).await.expect("served");
    eventually("the slow ones are gone", || {
        budget.used() < LIMIT && budget.paused() == 0
    })
    .await;
    for task in slow {
        task.abort();
    }
    drop(client);
    eventually("all is given back", || server.channels().is_empty()).await;
    eventually("nothing is charged", || budget.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_honest_bytes_than_there_is_room_for_come_through() {
    let (_server, _service, budget, addr) = serve().await;
    let senders: Vec<_> = (0..24)
        .map(|_| {
            let addr = addr.clone();
            tokio::spawn(async move {
                let client = RemotingClient::new(ClientOptions::default(), None);
                for _ in 0..3 {
                    ask(&client, &addr, 4 * MIB).await?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for sender in senders {
        assert_eq!(sender.await.unwrap(), Ok(()));
    }
    eventually("nothing is charged", || budget.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_charged_until_it_is_answered_or_made_smaller() {
    let (_server, service, budget, addr) = serve().await;
    let client = RemotingClient::new(ClientOptions::default(), None);
    let channel = client.channel(&addr).await.unwrap();
    for _ in 0..3 {
        channel.oneway(RemotingCommand::request(HOLD).with_body(vec![1; MIB]));
    }
    eventually("they arrive", || service.held.lock().len() == 3).await;
    eventually("they are charged", || budget.used() > 3 * MIB).await;
    for (cmd, replier) in service.held.lock().iter_mut() {
        cmd.body = Default::default();
        replier.shrink(100);
    }
    eventually("they are small", || budget.used() < 4096).await;
    service.held.lock().clear();
    eventually("nothing is charged", || budget.used() == 0).await;
}

#[tokio::test]
async fn other_protocols_are_named() {
    use raftmq_remoting::frame::FrameReader;
    let said = |text: &'static [u8]| async move {
        let read = FrameReader::new(text).next().await;
        read.expect_err("no frame").to_string()
    };
    let preface = said(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(
        preface.contains("HTTP/2") && preface.contains("gRPC"),
        "{preface}"
    );
    assert!(
        said(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .contains("speaks HTTP,")
    );
}
