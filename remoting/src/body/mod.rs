//! The JSON bodies of the protocol. Field names are those on the wire; unknown fields are ignored, missing ones and nulls
//! take their defaults, absent optional ones are not written.
//!
//! Read with [`crate::json::from_slice`], write with [`crate::json::to_bytes`].

mod acl;
mod assignment;
mod connection;
mod group;
mod ha;
mod heartbeat;
mod lists;
mod queue;
mod raft;
mod register;
mod route;
mod stats;
mod topic;

pub use acl::*;
pub use assignment::*;
pub use connection::*;
pub use group::*;
pub use ha::*;
pub use heartbeat::*;
pub use lists::*;
pub use queue::*;
pub use raft::*;
pub use register::*;
pub use route::*;
pub use stats::*;
pub use topic::*;

/// Declares JSON shapes: camel case names, lenient reading.
macro_rules! shapes {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(deserialize_with = "crate::json::null_as_default")]
                pub $field: $ty,
            )*
        }
    )*};
}
use shapes;

/// Declares an enum that is written by name and read by name or ordinal; an unknown one reads as the default. Variants
/// stand in the order of the Java enum.
macro_rules! named {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),* $(,)? }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant),* }

        impl $name {
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                const ALL: &[$name] = &[$($name::$variant),*];
                let known = match crate::json::NameOrOrdinal::deserialize(d)? {
                    crate::json::NameOrOrdinal::Name(name) => Self::from_name(&name),
                    crate::json::NameOrOrdinal::Ordinal(n) => usize::try_from(n).ok().and_then(|n| ALL.get(n).copied()),
                };
                Ok(known.unwrap_or_default())
            }
        }
    )*};
}
use named;
