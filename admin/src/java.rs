//! Sub-commands of RocketMQ's own tool that this one has not got.

/// Names of the 4.9 and 5.x lines. Whoever types one is told where it works instead of that it does not exist.
pub const COMMANDS: &str = "
    updateTopic updateTopicList deleteTopic updateSubGroup updateSubGroupList setConsumeMode deleteSubGroup updateBrokerConfig
    updateTopicPerm topicRoute topicStatus topicClusterList addBroker removeBroker resetMasterFlushOffset brokerStatus queryMsgById
    queryMsgByKey queryMsgByUniqueKey queryMsgByOffset queryMsgTraceById printMsg printMsgByQueue sendMsgStatus brokerConsumeStats
    producerConnection consumerConnection consumerProgress consumerStatus cloneGroupOffset producer topicList updateKvConfig
    deleteKvConfig wipeWritePerm addWritePerm resetOffsetByTime skipAccumulatedMessage updateOrderConf cleanExpiredCQ
    deleteExpiredCommitLog cleanUnusedTopic startMonitoring statsAll allocateMQ checkMsgSendRT clusterRT getNamesrvConfig
    updateNamesrvConfig getBrokerConfig getConsumerConfig queryCq sendMessage consumeMessage updateStaticTopic
    remappingStaticTopic exportMetadata exportConfigs exportMetrics exportMetadataInRocksDB exportPopRecord haStatus
    getSyncStateSet getBrokerEpoch getControllerMetaData getControllerConfig updateControllerConfig electMaster
    cleanBrokerMetadata dumpCompactionLog getColdDataFlowCtrInfo updateColdDataFlowCtrGroupConfig
    removeColdDataFlowCtrGroupConfig setCommitLogReadAheadMode createUser updateUser deleteUser getUser listUser copyUser
    createAcl updateAcl deleteAcl getAcl listAcl copyAcl rocksDBConfigToJson checkRocksdbCqWriteProgress updateAclConfig
    deleteAclConfig clusterAclConfigVersion updateGlobalWhiteAddr getAclConfig";
