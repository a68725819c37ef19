//! Users and their permissions (ACL 2.0): requests 3001-3010.

use super::shapes;

shapes! {
    #[derive(Default, Eq)]
    pub struct UserInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// enable or disable.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_status: Option<String>,
        /// Super or Normal.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_type: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<String>,
    }

    #[derive(Default, Eq)]
    pub struct AclInfo {
        policies: Vec<PolicyInfo>,
        /// `User:name`.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
    }

    #[derive(Default, Eq)]
    pub struct PolicyInfo {
        entries: Vec<PolicyEntryInfo>,
        /// Custom or Default.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_type: Option<String>,
    }

    #[derive(Default, Eq)]
    pub struct PolicyEntryInfo {
        actions: Vec<String>,
        /// Allow or Deny.
        #[serde(skip_serializing_if = "Option::is_none")]
        decision: Option<String>,
        /// `Type:name`.
        #[serde(skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        source_ips: Vec<String>,
    }
}
