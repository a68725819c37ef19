//! The broker about itself: GET_BROKER_CONFIG (26) and GET_BROKER_RUNTIME_INFO (28).

use std::sync::Arc;

use raftmq_remoting::body::{DataVersion, KVTable};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::GetBrokerConfigResponseHeader;
use raftmq_remoting::json;
use raftmq_remoting::version;

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::offset::{earliest_store_time, on_disk};
use crate::retention::used_percent;

/// Queues looked at for the oldest message; a broker with more answers from these.
const MAX_QUEUES_LOOKED_AT: usize = 4_096;

/// GET_BROKER_CONFIG.
pub fn get_config(broker: &Arc<Broker>, call: Call) {
    let version = DataVersion {
        counter: 0,
        state_version: 0,
        timestamp: broker.stats.boot_ms,
    };
    let version = String::from_utf8_lossy(&json::to_bytes(&version)).into_owned();
    let answer = RemotingCommand::response(response::SUCCESS)
        .with_header(&GetBrokerConfigResponseHeader { version })
        .with_body(broker.config().to_properties());
    call.reply(answer);
}

/// GET_BROKER_RUNTIME_INFO: mqadmin and the exporter parse several of these and fail on absence.
pub fn runtime_info(broker: &Arc<Broker>, call: Call) {
    on_disk(broker, call, |broker| {
        let table = KVTable {
            table: runtime_table(broker).into_iter().collect(),
        };
        Ok(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&table)))
    });
}

fn runtime_table(broker: &Broker) -> Vec<(String, String)> {
    let mut table: Vec<(String, String)> = Vec::new();
    let mut put = |key: &str, value: String| table.push((key.to_owned(), value));
    let stats = &broker.stats;
    let now = stats.totals();
    let (yesterday, today) = stats.mornings();
    put("msgPutTotalYesterdayMorning", yesterday.put.to_string());
    put("msgPutTotalTodayMorning", today.put.to_string());
    put("msgPutTotalTodayNow", now.put.to_string());
    put("msgGetTotalYesterdayMorning", yesterday.got.to_string());
    put("msgGetTotalTodayMorning", today.got.to_string());
    put("msgGetTotalTodayNow", now.got.to_string());
    put("putTps", stats.rates(|t| t.put));
    put("getFoundTps", stats.rates(|t| t.get_found));
    put("getMissTps", stats.rates(|t| t.get_missed));
    put("getTotalTps", stats.rates(|t| t.get_found + t.get_missed));
    let transferred = stats.rates(|t| t.got);
    // 4.9 tools read the older spelling.
    put("getTransferedTps", transferred.clone());
    put("getTransferredTps", transferred);

    put("bootTimestamp", stats.boot_ms.to_string());
    put("runtime", runtime(stats.uptime().as_secs()));
    put("putMessageTimesTotal", now.put.to_string());
    put("putMessageSizeTotal", now.put_bytes.to_string());
    let average = if now.put == 0 {
        0.0
    } else {
        now.put_bytes as f64 / now.put as f64
    };
    put("putMessageAverageSize", average.to_string());
    put("putMessageFailedTimes", stats.puts_failed().to_string());
    let (sends, reads) = (&stats.put_latency, &stats.get_latency);
    put("putMessageDistributeTime", sends.distribution());
    put("putMessageEntireTimeMax", sends.longest_ms().to_string());
    put("getMessageEntireTimeMax", reads.longest_ms().to_string());
    put("putLatency99", format!("{:.2}", sends.quantile(0.99)));
    put("putLatency999", format!("{:.2}", sends.quantile(0.999)));
    put("dispatchMaxBuffer", "0".to_owned());
    put("dispatchBehindBytes", "0".to_owned());
    put("pageCacheLockTimeMills", "0".to_owned());
    let (min, max) = broker.replica.log_range();
    put("commitLogMinOffset", min.to_string());
    put("commitLogMaxOffset", max.to_string());
    put("earliestMessageTimeStamp", earliest(broker).to_string());
    put("startAcceptSendRequestTimeStamp", "0".to_owned());
    put("remainTransientStoreBufferNumbs", "0".to_owned());
    put("remainHowManyDataToCommit", "0 B".to_owned());
    put("remainHowManyDataToFlush", "0 B".to_owned());
    put(
        "storeDamagedRanges",
        broker.replica.damaged_ranges().to_string(),
    );
    put("diskFull", broker.replica.is_full().to_string());
    if let Ok(space) = broker.replica.space() {
        // A share of one, as in RocketMQ; queues and log lie on one disk.
        let ratio = format!("{:.4}", used_percent(space) / 100.0);
        put("commitLogDiskRatio", ratio.clone());
        put(
            &format!("commitLogDiskRatio_{}", broker.config().store_dir),
            ratio.clone(),
        );
        put("consumeQueueDiskRatio", ratio);
        let capacity = format!(
            "Total : {}, Free : {}.",
            readable(space.total),
            readable(space.available)
        );
        put("commitLogDirCapacity", capacity);
    }

    stats.look_at_timers(broker);
    let rate = |text: String| text.split(' ').next().unwrap_or("0").to_owned();
    put("timerReadBehind", seconds_late(broker).to_string());
    // A timer pends as soon as its message is in its queue.
    put("timerOffsetBehind", "0".to_owned());
    put("timerCongestNum", stats.pending_timers(broker).to_string());
    put("timerEnqueueTps", rate(stats.rates(|t| t.timers_in)));
    put("timerDequeueTps", rate(stats.rates(|t| t.timers_out)));
    // Sends wait for the log and for a master; whatever else waits, does so for a disk.
    let sends = broker.sends.count() + broker.room.len();
    let send = (sends, broker.config().send_capacity);
    let read = broker.cold_reads.fill();
    let pools = [
        ("send", send),
        ("pull", read),
        ("litePull", read),
        ("query", read),
        ("ack", (0, 0)),
    ];
    for (pool, (size, capacity)) in pools {
        put(&format!("{pool}ThreadPoolQueueSize"), size.to_string());
        put(
            &format!("{pool}ThreadPoolQueueCapacity"),
            capacity.to_string(),
        );
        put(
            &format!("{pool}ThreadPoolQueueHeadWaitTimeMills"),
            "0".to_owned(),
        );
    }
    put("EndTransactionQueueSize", "0".to_owned());
    put("EndTransactionThreadPoolQueueCapacity", "0".to_owned());
    put("brokerVersionDesc", "V5_3_3".to_owned());
    put("brokerVersion", version::CURRENT_VERSION.to_string());
    put(
        "brokerActive",
        broker.replica.role().leader.is_some().to_string(),
    );
    table
}

/// By how much the earliest timer is late.
fn seconds_late(broker: &Broker) -> i64 {
    match broker.state().timers().next_ms() {
        Ok(next) => next.map_or(0, |at| now_ms().saturating_sub(at).max(0) / 1000),
        Err(e) => {
            tracing::error!(error = %e, "the earliest timer cannot be read");
            0
        }
    }
}

/// Store time of the oldest message there is, -1 without any.
fn earliest(broker: &Broker) -> i64 {
    let topics = broker.state().topics();
    let queues = topics
        .iter()
        .flat_map(|t| (0..t.read_queue_nums).map(move |queue| (&t.topic_name, queue)));
    let with_messages = queues
        .filter(|(topic, queue)| {
            broker
                .replica
                .queue_range(topic, *queue)
                .is_some_and(|(min, max)| max > min)
        })
        .take(MAX_QUEUES_LOOKED_AT);
    let times =
        with_messages.filter_map(|(topic, queue)| earliest_store_time(broker, topic, queue).ok());
    times.filter(|t| *t >= 0).min().unwrap_or(-1)
}

fn runtime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    format!(
        "[ {days} days, {hours} hours, {} minutes, {} seconds ]",
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `1.2 GiB`
fn readable(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_sizes() {
        assert_eq!(readable(0), "0 B");
        assert_eq!(readable(1023), "1023 B");
        assert_eq!(readable(1536), "1.5 KiB");
        assert_eq!(readable(3 << 30), "3.0 GiB");
    }

    #[test]
    fn readable_runtime() {
        assert_eq!(runtime(90_061), "[ 1 days, 1 hours, 1 minutes, 1 seconds ]");
    }
}
