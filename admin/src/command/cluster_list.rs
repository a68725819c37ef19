//! `clusterList`: a line for every broker, with the columns of RocketMQ's tool, which scripts take apart.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use raftmq_client::Admin;

use crate::{output, sets};

#[derive(clap::Args)]
pub struct Args {
    /// This cluster; all of them without it
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Messages in and out, yesterday and today, instead of the load
    #[arg(short = 'm', long = "moreStats")]
    more: bool,
    /// Again every so many seconds
    #[arg(short = 'i', long = "interval", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    interval: Option<u64>,
}

/// A broker and its runtime figures; none of them when it does not answer.
struct Broker<'a> {
    cluster: &'a str,
    name: &'a str,
    id: i64,
    addr: &'a str,
    info: BTreeMap<String, String>,
}

/// # Errors
/// No name server answers, or there is no such cluster. A broker that does not answer has an empty line and is named on stderr.
pub async fn run(admin: &Admin, args: &Args) -> anyhow::Result<()> {
    output::every(args.interval, async || once(admin, args).await).await
}

async fn once(admin: &Admin, args: &Args) -> anyhow::Result<()> {
    let known = admin.cluster_info().await?;
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_millis() as f64);
    let mut text = match args.more {
        true => more_heading(),
        false => heading(),
    };
    for set in sets::of_cluster(&known, args.cluster.as_deref())? {
        let Some(data) = known.broker_addr_table.get(&set.name) else {
            continue;
        };
        for (id, addr) in &data.broker_addrs {
            let info = admin.runtime_info(addr).await.unwrap_or_else(|e| {
                eprintln!("mqadmin: {addr}: {}", sets::told(&e));
                BTreeMap::new()
            });
            let broker = Broker {
                cluster: &data.cluster,
                name: &set.name,
                id: *id,
                addr,
                info,
            };
            text.push_str(&match args.more {
                true => more_line(&broker),
                false => line(&broker, now_ms),
            });
        }
    }
    output::print(&text)
}

fn columns(cells: [&str; 12]) -> String {
    let [
        cluster,
        name,
        id,
        addr,
        version,
        sent,
        got,
        timer,
        wait,
        hour,
        space,
        active,
    ] = cells;
    format!(
        "{cluster:<22}  {name:<22}  {id:<4}  {addr:<22} {version:<16}  {sent:>16}  {got:>30}  {timer:<22}  {wait:>11}  {hour:<12}  \
         {space:<8}  {active:>10}\n"
    )
}

fn heading() -> String {
    columns([
        "#Cluster Name",
        "#Broker Name",
        "#BID",
        "#Addr",
        "#Version",
        "#InTPS(LOAD)",
        "#OutTPS(LOAD)",
        "#Timer(Progress)",
        "#PCWait(ms)",
        "#Hour",
        "#SPACE",
        "#ACTIVATED",
    ])
}

fn line(broker: &Broker, now_ms: f64) -> String {
    let text = |key: &str| broker.info.get(key).map_or("", |v| &v[..]);
    // The first of several numbers: rates are those of 10 s, 60 s and 600 s.
    let number = |key: &str| -> f64 {
        let first = text(key).split(' ').next();
        first.and_then(|n| n.parse().ok()).unwrap_or_default()
    };
    let sent = format!(
        "{:.2}({},{}ms)",
        number("putTps"),
        number("sendThreadPoolQueueSize"),
        number("sendThreadPoolQueueHeadWaitTimeMills")
    );
    let got = format!(
        "{:.2}({},{}ms|{},{}ms)",
        number("getTransferredTps"),
        number("pullThreadPoolQueueSize"),
        number("pullThreadPoolQueueHeadWaitTimeMills"),
        number("ackThreadPoolQueueSize"),
        number("ackThreadPoolQueueHeadWaitTimeMills")
    );
    let timer = format!(
        "{}-{}({:.1}w, {:.1}, {:.1})",
        number("timerReadBehind"),
        number("timerOffsetBehind"),
        number("timerCongestNum") / 10_000.0,
        number("timerEnqueueTps"),
        number("timerDequeueTps")
    );
    let hours = match number("earliestMessageTimeStamp") {
        earliest if earliest > 0.0 => (now_ms - earliest) / 3_600_000.0,
        _ => 0.0,
    };
    columns([
        broker.cluster,
        broker.name,
        &broker.id.to_string(),
        broker.addr,
        text("brokerVersionDesc"),
        &sent,
        &got,
        &timer,
        &number("pageCacheLockTimeMills").to_string(),
        &format!("{hours:.2}"),
        &format!("{:.4}", number("commitLogDiskRatio")),
        text("brokerActive"),
    ])
}

fn more_columns(cells: [&str; 6]) -> String {
    let [
        cluster,
        name,
        in_yesterday,
        out_yesterday,
        in_today,
        out_today,
    ] = cells;
    format!(
        "{cluster:<16}  {name:<32} {in_yesterday:>14} {out_yesterday:>14} {in_today:>14} {out_today:>14}\n"
    )
}

fn more_heading() -> String {
    more_columns([
        "#Cluster Name",
        "#Broker Name",
        "#InTotalYest",
        "#OutTotalYest",
        "#InTotalToday",
        "#OutTotalToday",
    ])
}

fn more_line(broker: &Broker) -> String {
    let between = |from: &str, to: &str| {
        let count = |key: &str| -> i64 {
            let value = broker.info.get(key).and_then(|v| v.parse().ok());
            value.unwrap_or_default()
        };
        count(to).saturating_sub(count(from)).to_string()
    };
    more_columns([
        broker.cluster,
        broker.name,
        &between("msgPutTotalYesterdayMorning", "msgPutTotalTodayMorning"),
        &between("msgGetTotalYesterdayMorning", "msgGetTotalTodayMorning"),
        &between("msgPutTotalTodayMorning", "msgPutTotalTodayNow"),
        &between("msgGetTotalTodayMorning", "msgGetTotalTodayNow"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker<'a>(info: &[(&str, &str)]) -> Broker<'a> {
        Broker {
            cluster: "RaftMQCluster",
            name: "broker-a",
            id: 0,
            addr: "127.0.0.1:23100",
            info: info
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    /// What the 5.3.3 tool printed for such a broker.
    #[test]
    fn lines_are_those_of_the_java_tool() {
        let info = [
            ("putTps", "0.1149 0.02 0.02"),
            ("brokerVersionDesc", "V5_3_3"),
            ("brokerActive", "true"),
            ("commitLogDiskRatio", "0.4686"),
            ("earliestMessageTimeStamp", "1000"),
        ];
        let text = heading() + &line(&broker(&info), 5_401_000.0);
        assert_eq!(
            text,
            "\
#Cluster Name           #Broker Name            #BID  #Addr                  #Version              #InTPS(LOAD)                   #OutTPS(LOAD)  #Timer(Progress)        #PCWait(ms)  #Hour         #SPACE    #ACTIVATED
RaftMQCluster           broker-a                0     127.0.0.1:23100        V5_3_3                 0.11(0,0ms)               0.00(0,0ms|0,0ms)  0-0(0.0w, 0.0, 0.0)               0  1.50          0.4686          true
"
        );
    }

    #[test]
    fn totals_are_differences() {
        let info = [
            ("msgPutTotalYesterdayMorning", "5"),
            ("msgPutTotalTodayMorning", "12"),
            ("msgPutTotalTodayNow", "20"),
        ];
        assert_eq!(
            more_heading() + &more_line(&broker(&info)),
            "\
#Cluster Name     #Broker Name                       #InTotalYest  #OutTotalYest  #InTotalToday #OutTotalToday
RaftMQCluster     broker-a                                      7              0              8              0
"
        );
    }
}
