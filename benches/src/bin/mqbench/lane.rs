//! A lane: one connection to one master, for as long as the run goes on. What it talks about is a [`Talk`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, Reader};
use super::link::{Link, Outbox};
use super::plan::Routes;
use super::stats::{Shared, Stats};

/// Pause after an error, and between two tries to connect.
pub const PAUSE: Duration = Duration::from_millis(5);

/// Requests and what is done with their answers.
pub trait Talk: Send + 'static {
    /// Whether the answers are those of pulls.
    const PULLS: bool;

    /// An answer that came at `now`.
    fn answer(&mut self, answer: &Answer<'_>, now: u64, stats: &mut Stats);

    /// Adds the requests that can be made now. Wakes `cx` when there are more later for another reason than an answer.
    fn fill(&mut self, out: &mut Outbox, cx: &mut Context<'_>);

    /// Everything that was added is written.
    fn written(&mut self) {}

    /// Requests that failed wait for [`Self::tick`].
    fn waits(&self) -> bool;

    /// Looks for requests that began before `before` and gives them up; lets those go on that failed.
    fn tick(&mut self, before: u64, stats: &mut Stats);

    /// The connection is open, or it is not any more: what was under way has failed.
    fn connected(&mut self, open: bool, stats: &mut Stats);
}

/// Where a lane leads.
pub struct Lane {
    pub set: String,
    pub shared: Arc<Shared>,
    pub routes: Arc<Routes>,
    /// After every request's head.
    pub tail: Bytes,
    /// Longest wait for an answer.
    pub patience: Duration,
}

impl Lane {
    /// Talks, and connects anew, to where the route then leads, until it is dropped.
    pub async fn run<T: Talk>(self, mut talk: T) {
        loop {
            let addr = self.routes.addr(&self.set);
            let connected = match &addr {
                Some(addr) => connect(addr, self.shared.timeout).await,
                None => None,
            };
            let (Some(stream), Some(addr)) = (connected, addr) else {
                self.shared.stats.lock().error("no connection", 1);
                self.routes.ask();
                sleep(PAUSE).await;
                continue;
            };
            self.shared.connected.fetch_add(1, Ordering::Relaxed);
            talk.connected(true, &mut self.shared.stats.lock());
            self.talk(stream, &addr, &mut talk).await;
            self.shared.connected.fetch_sub(1, Ordering::Relaxed);
            talk.connected(false, &mut self.shared.stats.lock());
            self.routes.ask();
            sleep(PAUSE).await;
        }
    }

    /// Until the connection is lost, or the set's master is somewhere else.
    async fn talk<T: Talk>(&self, stream: TcpStream, addr: &str, talk: &mut T) {
        let reader = Reader::new(T::PULLS);
        let mut link = Link::new(stream, self.tail.clone());
        let sweep = (self.patience / 8).clamp(PAUSE, Duration::from_millis(500));
        let mut tick = pin!(sleep(sweep));
        let mut soon = false;
        poll_fn(|cx| {
            loop {
                let mut done = true;
                match link.poll_read(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => {
                        done = false;
                        let now = self.shared.now();
                        let mut stats = self.shared.stats.lock();
                        let read = link.frames(|frame| {
                            if let Some(answer) = reader.read(frame) {
                                talk.answer(&answer, now, &mut stats);
                            }
                        });
                        if read.is_err() {
                            return Poll::Ready(());
                        }
                    }
                }
                if talk.waits() && !soon {
                    soon = true;
                    tick.as_mut().reset(Instant::now() + PAUSE);
                    self.routes.ask();
                }
                if tick.as_mut().poll(cx).is_ready() {
                    if soon && self.routes.addr(&self.set).is_some_and(|now| now != addr) {
                        return Poll::Ready(());
                    }
                    (done, soon) = (false, false);
                    let patience = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
                    let before = self.shared.now().saturating_sub(patience);
                    talk.tick(before, &mut self.shared.stats.lock());
                    tick.as_mut().reset(Instant::now() + sweep);
                }
                talk.fill(&mut link.out, cx);
                match link.poll_flush(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => talk.written(),
                }
                if done {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
}

async fn connect(addr: &str, limit: Duration) -> Option<TcpStream> {
    let stream = timeout(limit, TcpStream::connect(addr)).await.ok()?.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}
