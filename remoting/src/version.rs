//! Protocol version ordinals: RocketMQ numbers its releases in one enum, release and snapshot alternating.

/// What we announce: V5_3_3.
pub const CURRENT_VERSION: i32 = 479;
/// From here on a registration body is a `RegisterBrokerBody` (V3_0_11).
pub const V3_0_11: i32 = 37;
/// From here on `maxReconsumeTimes` of a request is honoured (V3_4_9).
pub const V3_4_9: i32 = 121;
/// The broker version from which clients use SQL92 subscriptions (V4_1_0_SNAPSHOT).
pub const V4_1_0_SNAPSHOT: i32 = 232;
/// Up to this version `_UNIQUE_KEY_QUERY` is not signed (V4_9_3).
pub const V4_9_3: i32 = 399;
/// From here on clients read standard JSON, with quoted integer keys (V4_9_4).
pub const V4_9_4: i32 = 401;
/// From here on a compressed registration ends with topic-queue mappings (V5_0_0).
pub const V5_0_0: i32 = 413;
/// Only newer clients understand GO_AWAY (V5_3_1).
pub const V5_3_1: i32 = 475;

/// The display name of an ordinal, for example `V5_3_3`. Ordinals before 4.0.0 or after 5.9.9 have no computed name.
pub fn describe(ordinal: i32) -> String {
    match ordinal {
        28 => return "V3_0_7_SNAPSHOT".into(),
        37 => return "V3_0_11".into(),
        62 => return "V3_1_8_SNAPSHOT".into(),
        121 => return "V3_4_9".into(),
        _ => {}
    }
    // Odd ordinals are releases in both lines, the even one below is the snapshot.
    let (release, suffix) = if ordinal % 2 == 0 {
        (ordinal + 1, "_SNAPSHOT")
    } else {
        (ordinal, "")
    };
    match release {
        293..=411 => format!(
            "V4_{}_{}{suffix}",
            4 + (release - 293) / 20,
            (release - 293) % 20 / 2
        ),
        413..=611 => format!(
            "V5_{}_{}{suffix}",
            (release - 413) / 20,
            (release - 413) % 20 / 2
        ),
        613.. => "HIGHER_VERSION".into(),
        _ => format!("V{ordinal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn known_ordinals_have_their_names() {
        for (ordinal, name) in [
            (317, "V4_5_2"),
            (333, "V4_6_0"),
            (399, "V4_9_3"),
            (409, "V4_9_8"),
            (413, "V5_0_0"),
            (479, "V5_3_3"),
            (478, "V5_3_3_SNAPSHOT"),
            (493, "V5_4_0"),
            (611, "V5_9_9"),
            (612, "HIGHER_VERSION"),
            (121, "V3_4_9"),
            (0, "V0"),
            (-1, "V-1"),
        ] {
            assert_eq!(describe(ordinal), name, "{ordinal}");
        }
    }
}
