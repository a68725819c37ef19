//! Server and client over the loopback device.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use raftmq_remoting::frame::{FrameReader, decode_frame, encode};
use raftmq_remoting::{
    Channel, ClientOptions, Handler, RemotingClient, RemotingCommand, RemotingError, Replier,
    Request, Server, ServerOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ECHO: i32 = 1;
const PANIC: i32 = 2;
const HOLD: i32 = 3;
const BIG: i32 = 4;
const DROP: i32 = 5;
const CALL_BACK: i32 = 6;
const BIG_BODY: usize = 1 << 20;

/// Answers by request code.
#[derive(Default)]
struct Service {
    held: Mutex<Vec<Replier>>,
    seen: AtomicUsize,
    open: AtomicUsize,
}

impl Handler for Service {
    fn handle(&self, request: Request) {
        self.seen.fetch_add(1, Ordering::SeqCst);
        match request.cmd.code {
            ECHO => {
                let mut reply = RemotingCommand::reply_to(&request.cmd, 0);
                reply.body = request.cmd.body.clone();
                reply.ext = request.cmd.ext.clone();
                request.reply(reply);
            }
            PANIC => panic!("the handler fails on purpose"),
            HOLD => self.held.lock().push(request.split().1),
            BIG => request.reply(RemotingCommand::response(0).with_body(vec![7; BIG_BODY])),
            DROP => drop(request),
            CALL_BACK => {
                let channel = request.channel.clone();
                let (_, replier) = request.split();
                channel.invoke_with(
                    RemotingCommand::request(ECHO).with_body("from server"),
                    SECOND,
                    move |answer| {
                        replier.reply(RemotingCommand::response(0).with_body(answer.unwrap().body));
                    },
                );
            }
            code => request.reply(
                RemotingCommand::response(3)
                    .with_remark(format!(" request type {code} not supported")),
            ),
        }
    }

    fn connected(&self, _: &Channel) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    fn disconnected(&self, _: &Channel) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

async fn serve(change: impl FnOnce(&mut ServerOptions)) -> (Server, Arc<Service>, String) {
    let mut options = ServerOptions::new("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    change(&mut options);
    let service = Arc::new(Service::default());
    let server = Server::bind(options, service.clone()).await.unwrap();
    let addr = server.local_addr().to_string();
    (server, service, addr)
}

fn client() -> RemotingClient {
    RemotingClient::new(ClientOptions::default(), None)
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pipelined_requests() {
    let (_server, service, addr) = serve(|_| ()).await;
    let client = client();
    let channel = client.channel(&addr).await.unwrap();
    let start = Instant::now();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    for i in 0..20_000u32 {
        let tx = tx.clone();
        let cmd = RemotingCommand::request(ECHO)
            .with_ext("n", i.to_string())
            .with_body(Bytes::from(vec![i as u8; 1000]));
        channel.invoke_with(cmd, LONG, move |answer| tx.send((i, answer)).unwrap());
    }
    drop(tx);
    let mut answered = 0;
    while let Some((i, answer)) = rx.recv().await {
        let answer = answer.unwrap();
        assert_eq!(answer.ext.get("n"), Some(i.to_string().as_str()));
        assert_eq!(
            (answer.body.len(), answer.body.to_bytes()[0]),
            (1000, i as u8)
        );
        answered += 1;
    }
    assert_eq!(
        (answered, service.seen.load(Ordering::SeqCst)),
        (20_000, 20_000)
    );
    println!("20000 requests of 1 KB in {:?}", start.elapsed());
}

#[tokio::test]
async fn oneways_are_never_answered() {
    let (_server, service, addr) = serve(|_| ()).await;
    let client = client();
    for code in [ECHO, PANIC, DROP] {
        client
            .oneway(&addr, RemotingCommand::request(code))
            .await
            .unwrap();
    }
    client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap();
    assert_eq!(service.seen.load(Ordering::SeqCst), 4);

    let mut raw = TcpStream::connect(&addr).await.unwrap();
    let mut oneway = RemotingCommand::request(ECHO);
    oneway.mark_oneway();
    let mut out = Vec::new();
    encode(&oneway, &mut out).unwrap();
    raw.write_all(&out).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(100), raw.read_u8()).await;
    assert!(answer.is_err(), "something came back");
}

struct Pushed;

impl Handler for Pushed {
    fn handle(&self, request: Request) {
        let body = [&request.cmd.body.to_bytes()[..], b" and client"].concat();
        request.reply(RemotingCommand::response(0).with_body(body));
    }
}

#[tokio::test]
async fn the_server_asks_the_client() {
    let (server, _, addr) = serve(|_| ()).await;
    let client = RemotingClient::new(ClientOptions::default(), Some(Arc::new(Pushed)));
    let answer = client
        .invoke(&addr, RemotingCommand::request(CALL_BACK), SECOND)
        .await
        .unwrap();
    assert_eq!(answer.body.to_bytes(), "from server and client");
    let channel = server.channels().remove(0);
    let asked = channel
        .invoke(RemotingCommand::request(ECHO).with_body("push"), SECOND)
        .await
        .unwrap();
    assert_eq!(asked.body.to_bytes(), "push and client");
}

#[tokio::test]
async fn a_client_without_handler_answers_not_supported() {
    let (server, _, addr) = serve(|_| ()).await;
    let client = client();
    client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap();
    let answer = server.channels()[0]
        .invoke(RemotingCommand::request(77), SECOND)
        .await
        .unwrap();
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (3, Some(" request type 77 not supported"))
    );
}

#[tokio::test]
async fn idle_connections_close_and_busy_ones_stay() {
    let (server, service, addr) = serve(|o| o.idle = Duration::from_millis(200)).await;
    let quiet = TcpStream::connect(&addr).await.unwrap();
    let client = client();
    for _ in 0..12 {
        client
            .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        server.channels().len(),
        1,
        "only the busy connection is open"
    );
    drop(quiet);
    eventually("the busy one idles out too", || {
        service.open.load(Ordering::SeqCst) == 0
    })
    .await;
    client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .expect("a new connection is made");
}

#[tokio::test]
async fn bad_frames_close_only_their_connection() {
    let (_server, _, addr) = serve(|_| ()).await;
    let client = client();
    client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap();
    let bad: [&[u8]; 5] = [
        &[0, 0, 0, 0],
        &[0xFF; 16],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 5, 0, 0, 0, 9, 1],
        &[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'x'],
    ];
    for bytes in bad {
        let mut raw = TcpStream::connect(&addr).await.unwrap();
        raw.write_all(bytes).await.unwrap();
        let end = tokio::time::timeout(SECOND, raw.read_u8())
            .await
            .expect("the connection is closed");
        assert!(end.is_err());
    }
    client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_panic_in_a_handler_is_answered_and_survived() {
    let (_server, _, addr) = serve(|_| ()).await;
    let client = client();
    for _ in 0..3 {
        let answer = client
            .invoke(&addr, RemotingCommand::request(PANIC), SECOND)
            .await
            .unwrap();
        assert_eq!(answer.code, 1);
        let answer = client
            .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
            .await
            .unwrap();
        assert_eq!(answer.code, 0);
    }
}

#[tokio::test]
async fn timeouts_come_in_time_and_late_answers_do_no_harm() {
    let (_server, service, addr) = serve(|_| ()).await;
    let client = client();
    client.channel(&addr).await.unwrap();
    let start = Instant::now();
    let error = client
        .invoke(
            &addr,
            RemotingCommand::request(HOLD),
            Duration::from_millis(100),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            RemotingError::Timeout {
                timeout_ms: 90..=100,
                ..
            }
        ),
        "{error}"
    );
    assert!(!error.surely_not_sent());
    assert!(
        (80..900).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
    service
        .held
        .lock()
        .drain(..)
        .for_each(|r| r.reply(RemotingCommand::response(0)));
    client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_closed_connection_fails_what_waits_on_it() {
    let (server, service, addr) = serve(|_| ()).await;
    let client = client();
    let waiting = tokio::spawn({
        let (client, addr) = (client.clone(), addr.clone());
        async move {
            client
                .invoke(&addr, RemotingCommand::request(HOLD), LONG)
                .await
        }
    });
    eventually("the request arrives", || service.held.lock().len() == 1).await;
    let channel = client.channel(&addr).await.unwrap();
    server.shutdown().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(
        matches!(error, RemotingError::Closed { .. }) && !error.surely_not_sent(),
        "{error}"
    );
    let error = channel
        .invoke(RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RemotingError::NotSent { .. }) && error.surely_not_sent(),
        "{error}"
    );
    let error = client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RemotingError::Connect { .. }) && error.surely_not_sent(),
        "{error}"
    );
}

#[tokio::test]
async fn requests_still_queued_at_a_close_are_surely_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (client, accepted) = (client(), async { listener.accept().await.unwrap().0 });
    let (channel, peer) = tokio::join!(client.channel(&addr), accepted);
    let channel = channel.unwrap();
    // The peer reads nothing: this fills the socket and leaves the writer in the middle of it.
    channel.oneway(RemotingCommand::request(ECHO).with_body(vec![0; 12 << 20]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (tx, rx) = tokio::sync::oneshot::channel();
    channel.invoke_with(RemotingCommand::request(ECHO), LONG, move |r| {
        tx.send(r).unwrap()
    });
    channel.close("for the test");
    assert!(matches!(
        rx.await.unwrap(),
        Err(RemotingError::NotSent { .. })
    ));
    drop(peer);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_bounded_and_cut_off() {
    let (server, service, addr) = serve(|_| ()).await;
    let mut raw = TcpStream::connect(&addr).await.unwrap();
    let mut out = Vec::new();
    encode(&RemotingCommand::request(BIG), &mut out).unwrap();
    let asked = 200;
    let bytes = out.repeat(asked);
    raw.write_all(&bytes).await.unwrap();
    eventually("requests are read", || {
        service.seen.load(Ordering::SeqCst) > 20
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Reading stopped when half of the outbound limit was queued.
    let seen = service.seen.load(Ordering::SeqCst);
    assert!(seen < 60, "{seen} requests were read");
    let channel = server.channels().remove(0);
    assert!(channel.outbound_bytes() < 40 << 20);
    // When the peer reads, the rest is served.
    let mut reader = FrameReader::new(raw);
    for _ in 0..asked {
        let answer = decode_frame(reader.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(answer.body.len(), BIG_BODY);
    }
    // Pushing without a request is cut off at the limit.
    for _ in 0..100 {
        channel.oneway(RemotingCommand::request(9).with_body(vec![0; BIG_BODY]));
    }
    assert!(channel.is_closed());
}

#[tokio::test]
async fn unanswered_requests_stop_the_reading_until_they_are_answered() {
    let (server, service, addr) = serve(|o| o.max_inflight_bytes = 100_000).await;
    let client = client();
    let channel = client.channel(&addr).await.unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let answered = answered.clone();
        let cmd = RemotingCommand::request(HOLD).with_body(vec![0; 10_000]);
        channel.invoke_with(cmd, LONG, move |r| {
            r.unwrap();
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    eventually("the limit is reached", || {
        service.seen.load(Ordering::SeqCst) >= 9
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let seen = service.seen.load(Ordering::SeqCst);
    assert!(seen <= 10, "{seen}");
    assert!(server.channels()[0].inflight_bytes() < 120_000);
    eventually("all are answered", || {
        let held = std::mem::take(&mut *service.held.lock());
        held.into_iter()
            .for_each(|r| r.reply(RemotingCommand::response(0)));
        answered.load(Ordering::SeqCst) == 100
    })
    .await;
    assert_eq!(server.channels()[0].inflight_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections() {
    let (server, service, addr) = serve(|_| ()).await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(&addr).await.unwrap());
    }
    eventually("all are accepted", || {
        service.open.load(Ordering::SeqCst) == 1000
    })
    .await;
    client()
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .unwrap();
    drop(idle);
    eventually("all are gone", || server.channels().is_empty()).await;
    server.shutdown().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let (server, _, addr) = serve(|o| o.max_connections = 2).await;
    let clients = [client(), client()];
    for c in &clients {
        c.invoke(&addr, RemotingCommand::request(ECHO), SECOND)
            .await
            .unwrap();
    }
    let mut third = TcpStream::connect(&addr).await.unwrap();
    assert!(
        tokio::time::timeout(SECOND, third.read_u8())
            .await
            .expect("closed")
            .is_err()
    );
    assert_eq!(server.channels().len(), 2);
}

#[tokio::test]
async fn an_address_rests_after_a_failed_attempt_and_recovers() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = client();
    let addr = free.to_string();
    for _ in 0..5 {
        let error = client
            .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
            .await
            .unwrap_err();
        assert!(matches!(error, RemotingError::Connect { .. }));
    }
    let service = Arc::new(Service::default());
    let _server = Server::bind(ServerOptions::new(free), service)
        .await
        .unwrap();
    let start = Instant::now();
    while client
        .invoke(&addr, RemotingCommand::request(ECHO), SECOND)
        .await
        .is_err()
    {
        assert!(start.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.close();
    assert!(client.channel(&addr).await.is_err());
}

#[tokio::test]
async fn a_dropped_request_gives_its_bytes_back() {
    let (server, _, addr) = serve(|_| ()).await;
    let client = client();
    let error = client
        .invoke(
            &addr,
            RemotingCommand::request(DROP),
            Duration::from_millis(60),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, RemotingError::Timeout { .. }));
    assert_eq!(server.channels()[0].inflight_bytes(), 0);
}

#[tokio::test]
async fn answers_queued_before_a_close_are_still_written() {
    let (server, service, addr) = serve(|_| ()).await;
    let client = client();
    let waiting = tokio::spawn({
        let (client, addr) = (client.clone(), addr.clone());
        async move {
            client
                .invoke(&addr, RemotingCommand::request(HOLD), LONG)
                .await
        }
    });
    eventually("the request arrives", || service.held.lock().len() == 1).await;
    let replier = service.held.lock().remove(0);
    replier.reply(RemotingCommand::response(0).with_remark("last words"));
    server.shutdown().await;
    assert_eq!(
        waiting.await.unwrap().unwrap().remark.as_deref(),
        Some("last words")
    );
}

#[tokio::test]
async fn an_answer_too_large_for_a_frame_becomes_an_error() {
    let (_server, service, addr) = serve(|_| ()).await;
    let client = client();
    let waiting = tokio::spawn({
        let (client, addr) = (client.clone(), addr.clone());
        async move {
            client
                .invoke(&addr, RemotingCommand::request(HOLD), LONG)
                .await
        }
    });
    eventually("the request arrives", || service.held.lock().len() == 1).await;
    let replier = service.held.lock().remove(0);
    replier.reply(RemotingCommand::response(0).with_body(vec![0; 17 << 20]));
    assert_eq!(waiting.await.unwrap().unwrap().code, 1);
    let error = client
        .invoke(
            &addr,
            RemotingCommand::request(1).with_body(vec![0; 17 << 20]),
            SECOND,
        )
        .await;
    assert!(matches!(error, Err(RemotingError::Frame(_))));
}
