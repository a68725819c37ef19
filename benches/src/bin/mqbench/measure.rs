//! The time that is measured: warm-up, seconds, end; and what it cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::proc_stat::Usage;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::Args;
use super::report::Spent;
use super::stats::{Shared, Stats};
use super::timeline::Timeline;

/// How often it is looked whether enough messages are sent.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

/// What was measured.
pub struct Measured {
    pub time: Duration,
    pub total: Stats,
    pub spent: Spent,
    /// Part of the time in which the processors were slow.
    pub slow_share: f64,
}

/// Waits until lanes are connected, or until they have tried for long enough.
pub async fn connected(shared: &Shared, lanes: usize) {
    let deadline = Instant::now() + shared.timeout;
    let open = || shared.connected.load(std::sync::atomic::Ordering::Relaxed);
    while open() < lanes && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
    }
}

/// Measures until the time is over, `done` is ready, enough is sent, or SIGUSR1 comes.
///
/// # Errors
/// The time line cannot be written, or the signal not be taken.
pub async fn measure(
    args: &Args,
    shared: &Arc<Shared>,
    warm_up: Duration,
    done: impl Future<Output = ()>,
) -> Result<Measured, BenchError> {
    let mut timeline = args.timeline.as_deref().map(Timeline::create).transpose()?;
    let mut enough = signal(SignalKind::user_defined1()).map_err(BenchError::io("SIGUSR1"))?;
    let idle = Usage::of_all(&args.pids);
    tokio::pin!(done);
    if !warm_up.is_zero() {
        sleep(warm_up).await;
    }
    let (mut second, mut total) = (Stats::new(), Stats::new());
    shared.stats.lock().drain_into(&mut Stats::new());
    let own = || Usage::of(std::process::id()).unwrap_or_default().cpu;
    let (own_before, mut servers_before, began) =
        (own(), Usage::of_all(&args.pids), Instant::now());
    servers_before.rss = idle.rss;
    let looks_before = shared.pulse.looks();
    if let Some(timeline) = &mut timeline {
        timeline.begin(servers_before.cpu);
    }
    let end = began + Duration::from_secs(args.seconds);
    let (mut next, mut over) = (began + SECOND, false);
    while !over {
        let mut pause = next.min(end).saturating_duration_since(Instant::now());
        if args.messages.is_some() {
            pause = pause.min(LOOK_EVERY);
        }
        tokio::select! {
            () = &mut done => over = true,
            _ = enough.recv() => over = true,
            () = sleep(pause) => {}
        }
        let now = Instant::now();
        let sent = total.sent + shared.stats.lock().sent;
        over |= now >= end || args.messages.is_some_and(|wanted| sent >= wanted);
        if over || now >= next {
            shared.stats.lock().drain_into(&mut second);
            if let Some(timeline) = &mut timeline {
                timeline.tell(&second, &args.pids)?;
            }
            second.drain_into(&mut total);
            next += SECOND;
        }
    }
    let looks = shared.pulse.looks();
    let (looks, slow) = (looks.0 - looks_before.0, looks.1 - looks_before.1);
    Ok(Measured {
        slow_share: slow as f64 / looks.max(1) as f64,
        time: began.elapsed(),
        total,
        spent: Spent {
            servers_before,
            servers_after: Usage::of_all(&args.pids),
            own: own().saturating_sub(own_before),
        },
    })
}
