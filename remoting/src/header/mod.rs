//! Typed command headers: RocketMQ's `CommandCustomHeader` classes.
//!
//! Each header is declared once with [`headers!`](crate::headers): wire name, type and whether the field is required. The
//! wire name is the Java field name. Numbers and booleans travel as text; an absent optional field is not written.

mod admin;
mod client;
mod consumer_admin;
mod field;
mod namesrv;
mod offset;
mod pop;
mod pull;
mod raft;
mod send;
mod transaction;

pub use admin::*;
pub use client::*;
pub use consumer_admin::*;
pub use field::Field;
pub use namesrv::*;
pub use offset::*;
pub use pop::*;
pub use pull::*;
pub use raft::*;
pub use send::*;
pub use transaction::*;

use crate::ext::ExtFields;

/// Extension fields that may come with any request.
pub mod extra {
    /// Broker name the client believes it talks to.
    pub const BROKER_NAME: &str = "bname";
    pub const NAMESPACE: &str = "ns";
    pub const NAMESPACED: &str = "nsd";
    pub const ONEWAY: &str = "oway";
    /// The topic is logical (static topics).
    pub const LOGICAL: &str = "lo";
    pub const ZONE_NAME: &str = "__ZONE_NAME";
    pub const ZONE_MODE: &str = "__ZONE_MODE";
    pub const ACCESS_KEY: &str = "AccessKey";
    pub const SIGNATURE: &str = "Signature";
    pub const SECURITY_TOKEN: &str = "SecurityToken";
    /// QUERY_MESSAGE: look the key up as a unique id.
    pub const UNIQUE_KEY_QUERY: &str = "_UNIQUE_KEY_QUERY";
    /// Send responses carry the two; Java clients read them without a null check.
    pub const MSG_REGION: &str = "MSG_REGION";
    pub const TRACE_ON: &str = "TRACE_ON";
    /// Heartbeat responses.
    pub const IS_SUPPORT_HEART_BEAT_V2: &str = "IS_SUPPORT_HEART_BEAT_V2";
    pub const IS_SUB_CHANGE: &str = "IS_SUB_CHANGE";
}

/// Why a typed header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the required field <{0}> is missing")]
    Missing(&'static str),
    #[error("the field <{field}> is not {wanted}: {value:?}")]
    Mistyped {
        field: &'static str,
        wanted: &'static str,
        value: String,
    },
}

/// A typed view of a command's extension fields.
pub trait Header: Sized {
    /// Wire name of every field and whether it is required.
    const FIELDS: &'static [(&'static str, bool)];

    /// # Errors
    /// A required field is missing or a field does not parse; the error names it.
    fn decode(ext: &ExtFields) -> Result<Self, HeaderError>;

    /// Sets the fields in `ext`; absent optional ones are left out.
    fn encode(&self, ext: &mut ExtFields);
}

/// Declares typed headers: `field: Type = "wireName" required,`. A field that is not `required` is `Option`, or takes its
/// type's default when absent.
#[macro_export]
macro_rules! headers {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty = $wire:literal $($required:ident)?),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl $crate::header::Header for $name {
            const FIELDS: &'static [(&'static str, bool)] = &[$(($wire, $crate::required!($($required)?))),*];

            fn decode(ext: &$crate::ext::ExtFields) -> Result<Self, $crate::header::HeaderError> {
                let fields = $crate::ext::FieldsReader::new(ext);
                let _ = &fields;
                Ok(Self {
                    $($field: <$ty as $crate::header::Field>::read(&fields, const { $crate::ext::Name::new($wire) }, $crate::required!($($required)?))?,)*
                })
            }

            fn encode(&self, ext: &mut $crate::ext::ExtFields) {
                let _ = &ext;
                $($crate::header::Field::write(&self.$field, ext, $wire);)*
            }
        }
    )*};
}

/// `required` as a boolean.
#[doc(hidden)]
#[macro_export]
macro_rules! required {
    () => {
        false
    };
    (required) => {
        true
    };
}
