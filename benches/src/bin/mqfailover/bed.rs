//! The test bed: a cluster, the prober on its first set, perhaps a load or a Java client, and the books that tell at the end
//! whether an acknowledged message is missing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::netns::Namespaces;
use raftmq_benches::prober::{Ack, Back, Prober};
use raftmq_benches::tally::run_number;
use raftmq_benches::traffic::Sender;
use raftmq_benches::{BenchError, Cluster, Tally};
use serde_json::{Value, json};

use crate::clusters::{self, READY_LIMIT, REPLICAS, Running, WHOLE_LIMIT, bin_dir, script};
use crate::java::JavaSender;
use crate::load::{BODY, Book, ClosedLoop, half_of_maximum, late, traffic};
use crate::{BedArgs, Load, Peer};

/// Until what is under way is acknowledged, and until what is acknowledged is consumed.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// How often something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a sub-command needs besides the prober.
#[derive(Clone, Default)]
pub struct Wishes {
    /// A Java client that polls routes this often.
    pub java_poll: Option<Duration>,
    /// A [`ClosedLoop`].
    pub closed_loop: bool,
    /// The cluster's network; without one, loopback.
    pub namespaces: Option<Arc<Namespaces>>,
}

/// See the module's text.
pub struct Bed {
    pub cluster: Cluster,
    /// The set that is broken.
    pub set: String,
    pub prober: Prober,
    pub java: Option<JavaSender>,
    pub closed: Option<ClosedLoop>,
    /// The open loop, unless idle.
    pub load: Option<(Sender, Arc<Tally>)>,
    /// Messages a second of the load, 0 when idle.
    rate: u32,
    books: Vec<Book>,
    random: u64,
    seed: u64,
    _temporary: Option<tempfile::TempDir>,
}

impl Bed {
    /// Starts everything.
    ///
    /// # Errors
    /// Something cannot be started or does not serve in time.
    pub async fn start(args: &BedArgs, wishes: &Wishes) -> Result<Self, BenchError> {
        let Running {
            cluster,
            set,
            dir,
            temporary,
        } = clusters::start(args, wishes.namespaces.clone()).await?;
        let is_java = args.peer == Peer::JavaDledger;
        let load = match (args.load, wishes.java_poll.is_some() || is_java) {
            (Some(load), _) => load,
            (None, true) => Load::Idle,
            (None, false) => Load::Half,
        };
        let rate = match (load, args.rate) {
            (Load::Idle, _) => 0,
            (Load::Half, Some(rate)) => rate,
            (Load::Half, None) => half_of_maximum(&bin_dir(args)?, &cluster, is_java).await?,
        };

        let seed = args.seed.unwrap_or_else(run_number);
        let topic = "FailoverProbe";
        let tally = Arc::new(Tally::new(run_number(), 0));
        let mut books = vec![Book::open(&cluster, topic, tally.clone()).await?];
        let replicas = cluster.brokers.iter().take(REPLICAS);
        let addrs: Vec<_> = replicas.map(|b| b.addr.clone()).collect();
        let prober = Prober::start(&addrs, &set, topic, tally);
        let (mut load, mut closed, mut java) = (None, None, None);
        if rate > 0 {
            let topic = "FailoverLoad";
            let tally = Arc::new(Tally::new(run_number(), BODY));
            books.push(Book::open(&cluster, topic, tally.clone()).await?);
            let sender = Sender::start(&traffic(&cluster, topic, rate), tally.clone()).await?;
            load = Some((sender, tally));
        }
        if wishes.closed_loop {
            let topic = "FailoverClosed";
            let tally = Arc::new(Tally::new(run_number(), BODY));
            books.push(Book::open(&cluster, topic, tally.clone()).await?);
            closed = Some(ClosedLoop::start(&cluster, topic, tally).await?);
        }
        if let Some(poll) = wishes.java_poll {
            let topic = "FailoverJava";
            let tally = Arc::new(Tally::new(run_number(), 0));
            books.push(Book::open(&cluster, topic, tally.clone()).await?);
            let script = script(args, "java-sender")?;
            let namesrv = cluster.namesrv_addr();
            let mut sender = JavaSender::start(&script, &dir, &namesrv, topic, poll, tally)?;
            sender.wait_sending(&cluster.sets(), READY_LIMIT).await?;
            java = Some(sender);
        }
        Ok(Self {
            cluster,
            set,
            prober,
            java,
            closed,
            load,
            rate,
            books,
            random: seed,
            seed,
            _temporary: temporary,
        })
    }

    /// What was set up, for people.
    pub fn describe(&self) -> String {
        let load = match self.rate {
            0 => "idle".to_owned(),
            rate => format!("{rate} messages of {BODY} bytes a second"),
        };
        format!(
            "{load}; seed {}; load average {}",
            self.seed,
            load_average()
        )
    }

    /// The same for a file.
    pub fn facts(&self) -> Value {
        json!({
            "sets": self.cluster.sets().len(),
            "rate": self.rate,
            "seed": self.seed,
            "load_average": load_average(),
        })
    }

    /// A random number below `end`.
    pub fn random(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    /// Waits until the set is whole and then a random time up to `most`, so that what follows is in step with no timer.
    ///
    /// # Errors
    /// It takes too long, or a process ended by itself.
    pub async fn settle(&mut self, most: Duration) -> Result<(), BenchError> {
        self.wait_whole().await?;
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(self.random(most));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Where the broken set's master is in [`Cluster::brokers`].
    ///
    /// # Errors
    /// The name server knows none.
    pub async fn master(&self) -> Result<usize, BenchError> {
        let master = self.cluster.master(&self.set).await?;
        let found = master.as_deref().and_then(|m| self.cluster.broker_at(m));
        found.ok_or_else(|| BenchError::Usage(format!("{} has no master", self.set)))
    }

    /// `broker-a-n1`, and `n1` for requests.
    pub fn name(&self, replica: usize) -> (String, String) {
        let broker = self.cluster.brokers.get(replica);
        let name = broker.map_or(String::new(), |b| b.process.name().to_owned());
        let short = name.rsplit('-').next().unwrap_or_default().to_owned();
        (name, short)
    }

    /// Waits until every replica follows and the prober reaches all of them.
    ///
    /// # Errors
    /// It takes too long, or a process ended by itself.
    pub async fn wait_whole(&mut self) -> Result<(), BenchError> {
        self.cluster.wait_whole(&self.set, WHOLE_LIMIT).await?;
        let deadline = Instant::now() + WHOLE_LIMIT;
        while !self.prober.connected() {
            late(deadline, WHOLE_LIMIT, "not every replica takes connections")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits for the acknowledgement that [`Prober::look_after`] looks for.
    ///
    /// # Errors
    /// None comes within `limit`.
    pub async fn first_ack(&self, limit: Duration) -> Result<Ack, BenchError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(ack) = self.prober.first() {
                return Ok(ack);
            }
            late(deadline, limit, "no replica takes a message")?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The longest time between two acknowledgements of the open loop since [`Self::forget_gaps`]; None when idle.
    pub fn load_gap(&self) -> Option<Duration> {
        self.load.as_ref().map(|(_, tally)| tally.longest_gap())
    }

    /// Messages of the open loop acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.load.as_ref().map_or(0, |(_, t)| t.counts().acked)
    }

    /// Measures all gaps anew.
    pub fn forget_gaps(&self) {
        self.prober.forget_gap();
        if let Some((_, tally)) = &self.load {
            tally.forget_gap();
        }
        if let Some(closed) = &self.closed {
            closed.forget_gap();
        }
    }

    /// Sends of the open and of the closed loop that failed so far, each try of a message counted.
    pub fn failed(&self) -> u64 {
        self.load.as_ref().map_or(0, |(sender, _)| sender.failed())
            + self.closed.as_ref().map_or(0, ClosedLoop::failed)
    }

    /// Ends what sends, waits until everything acknowledged is consumed, and ends the rest.
    ///
    /// # Errors
    /// What the Java client said cannot be read.
    pub async fn finish(mut self) -> Result<Totals, BenchError> {
        if let Some((load, _)) = self.load.take() {
            load.finish(DRAIN_LIMIT).await;
        }
        if let Some(closed) = self.closed.take() {
            closed.finish().await;
        }
        let back = self.prober.back();
        drop(self.prober);
        if let Some(java) = self.java.take() {
            java.finish()?;
        }
        let deadline = Instant::now() + DRAIN_LIMIT;
        let lost = |books: &[Book]| books.iter().map(|b| b.tally.counts().lost).sum::<u64>();
        while lost(&self.books) > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let totals = Totals {
            acked: self.books.iter().map(|b| b.tally.counts().acked).sum(),
            lost: lost(&self.books),
            back,
        };
        for book in self.books {
            book.consumer.shutdown().await;
        }
        self.cluster.stop();
        Ok(totals)
    }
}

/// The end of the books.
pub struct Totals {
    pub acked: u64,
    pub lost: u64,
    pub back: Back,
}

/// Of the last minute.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
