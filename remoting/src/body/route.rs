//! Routes and clusters: GET_ROUTEINFO_BY_TOPIC (105), GET_BROKER_CLUSTER_INFO (106), GET_BROKER_MEMBER_GROUP (901).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::shapes;
use crate::json::{self, Dialect};
use crate::version::V4_9_4;

shapes! {
    #[derive(Default)]
    pub struct TopicRouteData {
        broker_datas: Vec<BrokerData>,
        filter_server_table: BTreeMap<String, Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        order_topic_conf: Option<String>,
        queue_datas: Vec<QueueData>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_queue_mapping_by_broker: Option<BTreeMap<String, serde_json::Value>>,
    }

    #[derive(Default)]
    pub struct BrokerData {
        /// Address by broker id; 0 is the master.
        broker_addrs: BTreeMap<i64, String>,
        broker_name: String,
        cluster: String,
        enable_acting_master: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        zone_name: Option<String>,
    }

    #[derive(Default, Eq)]
    pub struct QueueData {
        broker_name: String,
        perm: i32,
        read_queue_nums: i32,
        topic_sys_flag: i32,
        write_queue_nums: i32,
    }

    #[derive(Default)]
    pub struct ClusterInfo {
        broker_addr_table: BTreeMap<String, BrokerData>,
        cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
    }

    #[derive(Default)]
    pub struct BrokerMemberGroup {
        broker_addrs: BTreeMap<i64, String>,
        broker_name: String,
        cluster: String,
    }

    #[derive(Default)]
    pub struct GetBrokerMemberGroupResponseBody {
        broker_member_group: BrokerMemberGroup,
    }
}

impl TopicRouteData {
    /// The route as a client of `version` reads it: standard JSON when it asks for it or is new enough.
    pub fn to_json_for(&self, version: i32, accept_standard_json_only: bool) -> Bytes {
        let standard = accept_standard_json_only || version >= V4_9_4;
        json::to_bytes_in(
            self,
            if standard {
                Dialect::Standard
            } else {
                Dialect::Fastjson
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_get_bare_broker_ids() {
        let route = TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_addrs: BTreeMap::from([(0, "a:1".into()), (1, "b:2".into())]),
                broker_name: "b".into(),
                cluster: "c".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let old = route.to_json_for(317, false);
        assert!(
            old.starts_with(br#"{"brokerDatas":[{"brokerAddrs":{0:"a:1",1:"b:2"},"#),
            "{old:?}"
        );
        for new in [route.to_json_for(401, false), route.to_json_for(317, true)] {
            assert!(
                new.starts_with(br#"{"brokerDatas":[{"brokerAddrs":{"0":"a:1","1":"b:2"},"#),
                "{new:?}"
            );
            assert_eq!(json::from_slice::<TopicRouteData>(&new).unwrap(), route);
        }
        assert_eq!(json::from_slice::<TopicRouteData>(&old).unwrap(), route);
    }
}
