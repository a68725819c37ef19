//! The simulated network. What gRPC would send over TCP travels as packets: a request's head and body, a response's, an end,
//! a reset. Packets of one direction of one call keep their order, as TCP keeps it; calls overtake each other. A lost packet
//! is one that comes late, because TCP sends it again; behind a cut, packets wait until it heals or the keep-alive ends the
//! call. Requests for votes may come twice, much later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use raftmq_raft::ground::{Port, http};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tonic::Status;

use super::dice::{Dice, Digest};

/// Microseconds of simulated time.
pub type Micros = u64;

/// A call that is stuck behind a cut for so long is reset: what keep-alive does in a broker.
const KEEP_ALIVE: Micros = 4_000_000;
/// Shortest way between two hosts: what is sent in one tick arrives in a later one.
const SHORTEST: Micros = 1_000;

/// Frames of a body on their way to who reads it.
pub type Frames = mpsc::UnboundedReceiver<Result<Frame<Bytes>, Status>>;
type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>;

/// Which way a packet of a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who asks to who answers.
    Up,
    /// Back.
    Down,
}

/// What a packet holds.
#[derive(Debug, Clone)]
pub enum What {
    /// The request's head.
    Open(Box<http::request::Parts>),
    /// The response's.
    Head(Box<http::response::Parts>),
    /// A piece of a body.
    Data(Bytes),
    /// What follows a body.
    Trailers(Box<http::HeaderMap>),
    /// Nothing follows.
    End,
    /// The call is broken.
    Reset,
}

impl What {
    fn kind(&self) -> u64 {
        match self {
            Self::Open(_) => 1,
            Self::Head(_) => 2,
            Self::Data(_) => 3,
            Self::Trailers(_) => 4,
            Self::End => 5,
            Self::Reset => 6,
        }
    }
}

struct Packet {
    call: u64,
    way: Way,
    what: What,
}

/// The asking end of a call.
struct Asker {
    head: Option<oneshot::Sender<http::response::Parts>>,
    body: Option<Feed>,
    pump: Option<AbortHandle>,
}

/// The answering end.
struct Answerer {
    body: Option<Feed>,
    task: Option<AbortHandle>,
}

struct Call {
    /// Host and life of who asks and who answers.
    ends: [(usize, u64); 2],
    /// When the last packet of each way arrives.
    newest: [Micros; 2],
    asker: Option<Asker>,
    answerer: Option<Answerer>,
    /// The packets of a call that may come twice.
    tape: Option<Vec<What>>,
    stuck_since: Option<Micros>,
}

/// How bad the way from one host to another is.
#[derive(Debug, Clone, Copy, Default)]
struct Road {
    cut: bool,
    /// Longest extra delay.
    slow: Micros,
    /// Packets of a thousand that are lost and sent again.
    loss: u64,
}

struct State {
    now: Micros,
    sequence: u64,
    dice: Dice,
    digest: Digest,
    addresses: Vec<String>,
    /// A number for each process that ran on a host; `None` while none does.
    lives: Vec<Option<u64>>,
    next_life: u64,
    ports: Vec<Option<Port>>,
    roads: Vec<Vec<Road>>,
    /// What is on its way to each host, by arrival.
    queues: Vec<BTreeMap<(Micros, u64), Packet>>,
    /// What waits behind a cut, oldest first.
    held: VecDeque<(usize, usize, Packet)>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    /// Votes of a thousand that come twice.
    twice: u64,
    packets: u64,
}

/// See the module's text.
pub struct Net {
    state: Mutex<State>,
}

/// A request that came to a host.
pub struct Request {
    /// The call.
    pub call: u64,
    /// The port that answers.
    pub port: Port,
    /// The request's head.
    pub head: Box<http::request::Parts>,
    /// Its body.
    pub body: Frames,
}

impl Net {
    /// Hosts at these addresses, all down.
    pub fn new(seed: u64, addresses: Vec<String>) -> Arc<Self> {
        let hosts = addresses.len();
        Arc::new(Self {
            state: Mutex::new(State {
                now: 0,
                sequence: 0,
                dice: Dice::new(seed, 0x2e7),
                digest: Digest::default(),
                addresses,
                lives: vec![None; hosts],
                next_life: 1,
                ports: (0..hosts).map(|_| None).collect(),
                roads: vec![vec![Road::default(); hosts]; hosts],
                queues: (0..hosts).map(|_| BTreeMap::new()).collect(),
                held: VecDeque::new(),
                calls: BTreeMap::new(),
                next_call: 1,
                twice: 0,
                packets: 0,
            }),
        })
    }

    /// It is this time now.
    pub fn tick(&self, now: Micros) {
        let mut state = self.state.lock();
        state.now = now;
        state.give_up_stuck();
    }

    /// Packets sent, and the digest of all of them.
    pub fn summary(&self) -> (u64, Digest) {
        let state = self.state.lock();
        (state.packets, state.digest)
    }

    /// Cuts or heals the way from one host to another.
    pub fn cut(&self, from: usize, to: usize, cut: bool) {
        let mut state = self.state.lock();
        state.roads[from][to].cut = cut;
        if cut {
            return;
        }
        let held = std::mem::take(&mut state.held);
        for (f, t, packet) in held {
            if (f, t) == (from, to) {
                if let Some(call) = state.calls.get_mut(&packet.call) {
                    call.stuck_since = None;
                }
                // TCP tries again less and less often.
                let late = state.dice.within(SHORTEST, 200_000);
                state.post(t, packet, late);
            } else {
                state.held.push_back((f, t, packet));
            }
        }
    }

    /// Makes a way slow (longest extra delay) and lossy (packets of a thousand).
    pub fn worsen(&self, from: usize, to: usize, slow: Micros, loss: u64) {
        let mut state = self.state.lock();
        let road = &mut state.roads[from][to];
        (road.slow, road.loss) = (slow, loss);
    }

    /// Votes of a thousand that come twice.
    pub fn repeat_votes(&self, permille: u64) {
        self.state.lock().twice = permille;
    }

    /// A process starts on a host.
    pub fn up(&self, host: usize) {
        let mut state = self.state.lock();
        let life = state.next_life;
        state.next_life += 1;
        state.lives[host] = Some(life);
    }

    /// The process on a host is gone; with the power, nobody says so to the others.
    pub fn down(&self, host: usize, power: bool) {
        let mut state = self.state.lock();
        state.lives[host] = None;
        state.ports[host] = None;
        let involved: Vec<(u64, Way)> = state
            .calls
            .iter()
            .filter_map(|(id, call)| match call.ends {
                [(asks, _), _] if asks == host => Some((*id, Way::Up)),
                [_, (answers, _)] if answers == host => Some((*id, Way::Down)),
                _ => None,
            })
            .collect();
        for (id, way) in involved {
            if let Some(call) = state.calls.get_mut(&id) {
                match way {
                    Way::Up => call.asker = None,
                    Way::Down => call.answerer = None,
                }
            }
            match power {
                true => state.break_at(id, way, KEEP_ALIVE),
                false => state.send(id, way, What::Reset),
            }
        }
    }

    /// Opens the port of a host.
    pub fn listen(&self, host: usize, port: Port) {
        self.state.lock().ports[host] = Some(port);
    }

    /// Begins a call; `None` for an address that nobody has.
    pub fn open(
        &self,
        from: usize,
        to: &str,
        head: http::request::Parts,
    ) -> Option<(u64, oneshot::Receiver<http::response::Parts>, Frames)> {
        let mut state = self.state.lock();
        let to = state.addresses.iter().position(|a| a == to)?;
        let own_life = state.lives[from]?;
        let life = state.lives[to].unwrap_or(0);
        let (head_in, head_out) = oneshot::channel();
        let (body_in, body_out) = mpsc::unbounded_channel();
        let id = state.next_call;
        state.next_call += 1;
        let votes = head.uri.path().ends_with("/RequestVote");
        let call = Call {
            ends: [(from, own_life), (to, life)],
            newest: [0; 2],
            asker: Some(Asker {
                head: Some(head_in),
                body: Some(body_in),
                pump: None,
            }),
            answerer: None,
            tape: votes.then(Vec::new),
            stuck_since: None,
        };
        state.calls.insert(id, call);
        state.digest.add_bytes(head.uri.path().as_bytes());
        state.send(id, Way::Up, What::Open(Box::new(head)));
        Some((id, head_out, body_out))
    }

    /// Sends a packet of a call.
    pub fn send(&self, call: u64, way: Way, what: What) {
        self.state.lock().send(call, way, what);
    }

    /// Who asked reads no further.
    pub fn abandon(&self, id: u64) {
        let asker = {
            let mut state = self.state.lock();
            let Some(call) = state.calls.get_mut(&id) else {
                return;
            };
            let asker = call.asker.take();
            if asker.is_some() {
                state.send(id, Way::Up, What::Reset);
            }
            asker
        };
        stop(asker.and_then(|a| a.pump));
    }

    /// The task that sends a request's body.
    pub fn pumped_by(&self, id: u64, pump: AbortHandle) {
        let mut state = self.state.lock();
        if let Some(asker) = state.calls.get_mut(&id).and_then(|c| c.asker.as_mut()) {
            asker.pump = Some(pump);
        }
    }

    /// The task that answers.
    pub fn answered_by(&self, id: u64, task: AbortHandle) {
        let mut state = self.state.lock();
        if let Some(end) = state.calls.get_mut(&id).and_then(|c| c.answerer.as_mut()) {
            end.task = Some(task);
        }
    }

    /// Hands a host what has come for it, and returns the requests that it has to answer. Call it on the host's runtime.
    pub fn arrivals(&self, host: usize) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut stopped = Vec::new();
        {
            let mut state = self.state.lock();
            let now = state.now;
            let later = state.queues[host].split_off(&(now + 1, 0));
            let due = std::mem::replace(&mut state.queues[host], later);
            for packet in due.into_values() {
                let (request, over) = state.arrive(host, packet);
                requests.extend(request);
                stopped.extend(over);
            }
        }
        stopped.into_iter().for_each(|task| task.abort());
        requests
    }
}

fn stop(task: Option<AbortHandle>) {
    if let Some(task) = task {
        task.abort();
    }
}

impl State {
    fn send(&mut self, id: u64, way: Way, what: What) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let (Way::Up, Some(tape)) = (way, call.tape.as_mut()) {
            tape.push(what.clone());
        }
        let [(asks, _), (answers, _)] = call.ends;
        let (from, to) = match way {
            Way::Up => (asks, answers),
            Way::Down => (answers, asks),
        };
        let repeat = matches!((&what, way), (What::End, Way::Up)) && call.tape.is_some();
        self.packets += 1;
        self.digest.add(&[
            self.now,
            id,
            from as u64,
            to as u64,
            way as u64,
            what.kind(),
        ]);
        if let What::Data(bytes) = &what {
            self.digest.add_bytes(bytes);
        }
        let packet = Packet {
            call: id,
            way,
            what,
        };
        self.route(from, to, packet);
        if repeat && self.dice.permille(self.twice) {
            self.repeat(id);
        }
    }

    fn route(&mut self, from: usize, to: usize, packet: Packet) {
        let road = self.roads[from][to];
        if road.cut {
            if let Some(call) = self.calls.get_mut(&packet.call) {
                call.stuck_since.get_or_insert(self.now);
            }
            self.held.push_back((from, to, packet));
            return;
        }
        let mut delay = self.dice.within(SHORTEST, 2 * SHORTEST) + self.dice.below(road.slow + 1);
        if self.dice.permille(road.loss) {
            delay += self.dice.within(200_000, 1_000_000);
        }
        self.post(to, packet, delay);
    }

    fn post(&mut self, to: usize, packet: Packet, delay: Micros) {
        let mut at = self.now + delay;
        if let Some(call) = self.calls.get_mut(&packet.call) {
            let newest = &mut call.newest[packet.way as usize];
            at = at.max(*newest);
            *newest = at;
        }
        self.digest.add(&[at]);
        self.sequence += 1;
        self.queues[to].insert((at, self.sequence), packet);
    }

    /// The other end finds out by itself, after some time, that a call is broken.
    fn break_at(&mut self, id: u64, way: Way, delay: Micros) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let to = match way {
            Way::Up => call.ends[1].0,
            Way::Down => call.ends[0].0,
        };
        let packet = Packet {
            call: id,
            way,
            what: What::Reset,
        };
        self.post(to, packet, delay);
    }

    /// Sends a request again, as if it had been asked twice; nobody reads the second answer.
    fn repeat(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (ends, tape) = (call.ends, call.tape.take().unwrap_or_default());
        let ghost = self.next_call;
        self.next_call += 1;
        let call = Call {
            ends,
            newest: [0; 2],
            asker: None,
            answerer: None,
            tape: None,
            stuck_since: None,
        };
        self.calls.insert(ghost, call);
        let delay = self.dice.below(3_000_000);
        for what in tape {
            let packet = Packet {
                call: ghost,
                way: Way::Up,
                what,
            };
            self.post(ends[1].0, packet, SHORTEST + delay);
        }
    }

    fn give_up_stuck(&mut self) {
        let now = self.now;
        let late = |call: &Call| call.stuck_since.is_some_and(|at| at + KEEP_ALIVE <= now);
        if self.held.is_empty() {
            return;
        }
        let stuck: Vec<u64> = self
            .held
            .iter()
            .filter(|(.., p)| self.calls.get(&p.call).is_none_or(late))
            .map(|(.., p)| p.call)
            .collect();
        self.held.retain(|(.., p)| !stuck.contains(&p.call));
        for id in stuck {
            if let Some(call) = self.calls.get_mut(&id) {
                call.stuck_since = None;
            }
            self.break_at(id, Way::Up, 0);
            self.break_at(id, Way::Down, 0);
        }
    }

    /// One packet at a host: what it has to answer, and which task has nothing to do any more.
    fn arrive(&mut self, host: usize, packet: Packet) -> (Option<Request>, Vec<AbortHandle>) {
        let Packet {
            call: id,
            way,
            what,
        } = packet;
        let life = self.lives[host];
        let Some(call) = self.calls.get_mut(&id) else {
            return (None, Vec::new());
        };
        let end = call.ends[way.receiver()];
        if life != Some(end.1) && !matches!(what, What::Reset) {
            // Not the process that was meant: who asked is told by the host's kernel, who answers was told before.
            if way == Way::Up {
                self.send(id, Way::Down, What::Reset);
            }
            return (None, Vec::new());
        }
        match way {
            Way::Up => self.arrive_up(host, id, what),
            Way::Down => (None, self.arrive_down(id, what)),
        }
    }

    fn arrive_up(
        &mut self,
        host: usize,
        id: u64,
        what: What,
    ) -> (Option<Request>, Vec<AbortHandle>) {
        let Some(call) = self.calls.get_mut(&id) else {
            return (None, Vec::new());
        };
        let frame = match what {
            What::Open(head) => {
                let Some(port) = self.ports[host].clone() else {
                    self.send(id, Way::Down, What::Reset);
                    return (None, Vec::new());
                };
                let (body_in, body) = mpsc::unbounded_channel();
                call.answerer = Some(Answerer {
                    body: Some(body_in),
                    task: None,
                });
                let request = Request {
                    call: id,
                    port,
                    head,
                    body,
                };
                return (Some(request), Vec::new());
            }
            What::Data(bytes) => Frame::data(bytes),
            What::Trailers(trailers) => Frame::trailers(*trailers),
            What::End => {
                if let Some(answerer) = &mut call.answerer {
                    answerer.body = None;
                }
                return (None, Vec::new());
            }
            What::Head(_) | What::Reset => {
                let gone = self.calls.remove(&id).and_then(|c| c.answerer);
                let task = gone.and_then(|answerer| {
                    let broken = Status::cancelled("the other side is gone");
                    answerer.body.map(|body| body.send(Err(broken)));
                    answerer.task
                });
                return (None, task.into_iter().collect());
            }
        };
        if let Some(body) = call.answerer.as_ref().and_then(|a| a.body.as_ref()) {
            let _ = body.send(Ok(frame));
        }
        (None, Vec::new())
    }

    fn arrive_down(&mut self, id: u64, what: What) -> Vec<AbortHandle> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Vec::new();
        };
        let over = matches!(what, What::End | What::Reset);
        if let Some(asker) = &mut call.asker {
            let frame = match what {
                What::Head(head) => {
                    if let Some(waits) = asker.head.take() {
                        let _ = waits.send(*head);
                    }
                    None
                }
                What::Data(bytes) => Some(Ok(Frame::data(bytes))),
                What::Trailers(trailers) => Some(Ok(Frame::trailers(*trailers))),
                What::End | What::Open(_) => None,
                What::Reset => Some(Err(Status::unavailable("the connection is broken"))),
            };
            if let (Some(frame), Some(body)) = (frame, &asker.body) {
                let _ = body.send(frame);
            }
        }
        match over {
            true => {
                let gone = self.calls.remove(&id).and_then(|c| c.asker);
                gone.and_then(|a| a.pump).into_iter().collect()
            }
            false => Vec::new(),
        }
    }
}

impl Way {
    fn receiver(self) -> usize {
        match self {
            Self::Up => 1,
            Self::Down => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hosts that run, and a call from the first to the second that was answered by nobody yet.
    fn call() -> (Arc<Net>, u64, Frames) {
        let net = Net::new(1, vec!["a".to_owned(), "b".to_owned()]);
        net.up(0);
        net.up(1);
        let port: Port = Arc::new(|_| Box::pin(std::future::pending()));
        net.listen(1, port);
        let (head, ()) = http::Request::builder()
            .uri("/x")
            .body(())
            .expect("a request")
            .into_parts();
        let (id, _answer, frames) = net.open(0, "b", head).expect("b is known");
        (net, id, frames)
    }

    fn bytes(frames: &mut Frames) -> Vec<u8> {
        let frames = std::iter::from_fn(|| frames.try_recv().ok());
        frames
            .map(|frame| frame.expect("no reset").into_data().expect("data")[0])
            .collect()
    }

    #[test]
    fn packets_of_a_call_keep_their_order_whatever_the_way_does_to_them() {
        let (net, id, _frames) = call();
        net.worsen(0, 1, 300_000, 500);
        for n in 0..50 {
            net.tick(n * 1_000);
            net.send(id, Way::Up, What::Data(Bytes::from(vec![n as u8])));
        }
        net.cut(0, 1, true);
        for n in 50..60 {
            net.send(id, Way::Up, What::Data(Bytes::from(vec![n as u8])));
        }
        net.tick(2_000_000);
        let mut requests = net.arrivals(1);
        let body = &mut requests[0].body;
        let mut got = bytes(body);
        assert!(got.len() <= 50, "nothing comes through a cut");
        net.cut(0, 1, false);
        net.tick(9_000_000);
        assert!(net.arrivals(1).is_empty());
        got.extend(bytes(body));
        assert_eq!(got, (0..60).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_stuck_for_too_long_breaks_at_both_ends() {
        let (net, id, mut frames) = call();
        net.tick(10_000);
        let mut requests = net.arrivals(1);
        net.cut(1, 0, true);
        net.send(id, Way::Down, What::Data(Bytes::from_static(b"x")));
        net.tick(10_000 + KEEP_ALIVE - 1);
        net.tick(20_000 + KEEP_ALIVE);
        assert!(net.arrivals(0).is_empty());
        assert!(matches!(frames.try_recv(), Ok(Err(_))), "who asked knows");
        net.arrivals(1);
        assert!(
            requests[0].body.try_recv().is_err(),
            "who answers, too, or it was told by the first"
        );
    }

    #[test]
    fn a_killed_process_is_known_at_once_and_one_without_power_later() {
        for power in [false, true] {
            let (net, id, mut frames) = call();
            net.tick(10_000);
            assert_eq!(net.arrivals(1).len(), 1);
            net.down(1, power);
            net.tick(20_000);
            net.arrivals(0);
            assert_eq!(frames.try_recv().is_ok(), !power);
            net.tick(20_000 + KEEP_ALIVE);
            net.arrivals(0);
            assert_eq!(frames.try_recv().is_ok(), power);
            net.send(id, Way::Down, What::End);
        }
    }
}
