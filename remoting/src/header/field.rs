//! The types a header field may have, and their text on the wire.

use super::HeaderError;
use crate::bytestr::ByteStr;
use crate::ext::{ExtFields, FieldsReader, Name};

/// A type a header field may have.
pub trait Field: Sized {
    /// Reads the field `name`; an absent one is an error when `required`, else the default.
    fn read(fields: &FieldsReader<'_>, name: Name, required: bool) -> Result<Self, HeaderError>;

    /// Sets the field, if it has a value.
    fn write(&self, ext: &mut ExtFields, name: &'static str);
}

fn absent<T: Default>(name: Name, required: bool) -> Result<T, HeaderError> {
    if required {
        Err(HeaderError::Missing(name.text()))
    } else {
        Ok(T::default())
    }
}

/// Longest part of a bad value repeated in an error, in characters.
const SHOWN_VALUE: usize = 64;

macro_rules! numbers {
    ($($ty:ty: $wanted:literal by $set:ident),*) => {$(
        impl Field for $ty {
            fn read(fields: &FieldsReader<'_>, name: Name, required: bool) -> Result<Self, HeaderError> {
                let Some(text) = fields.get(name) else { return absent(name, required) };
                text.trim().parse().map_err(|_| HeaderError::Mistyped {
                    field: name.text(),
                    wanted: $wanted,
                    value: text.chars().take(SHOWN_VALUE).collect(),
                })
            }

            fn write(&self, ext: &mut ExtFields, name: &'static str) {
                ext.$set(name, *self);
            }
        }
    )*};
}

numbers!(
    i32: "a 32-bit number" by set_integer,
    i64: "a 64-bit number" by set_integer,
    f64: "a number" by set_display
);

impl Field for bool {
    /// As Java: anything but "true", in any case, is false.
    fn read(fields: &FieldsReader<'_>, name: Name, required: bool) -> Result<Self, HeaderError> {
        let Some(text) = fields.get(name) else {
            return absent(name, required);
        };
        Ok(text.trim().eq_ignore_ascii_case("true"))
    }

    fn write(&self, ext: &mut ExtFields, name: &'static str) {
        ext.set(name, if *self { "true" } else { "false" });
    }
}

impl Field for ByteStr {
    fn read(fields: &FieldsReader<'_>, name: Name, required: bool) -> Result<Self, HeaderError> {
        fields
            .get_shared(name)
            .map_or_else(|| absent(name, required), Ok)
    }

    fn write(&self, ext: &mut ExtFields, name: &'static str) {
        ext.set(name, self.as_str());
    }
}

impl Field for String {
    fn read(fields: &FieldsReader<'_>, name: Name, required: bool) -> Result<Self, HeaderError> {
        fields
            .get(name)
            .map_or_else(|| absent(name, required), |v| Ok(v.to_owned()))
    }

    fn write(&self, ext: &mut ExtFields, name: &'static str) {
        ext.set(name, self.as_str());
    }
}

impl<T: Field> Field for Option<T> {
    fn read(fields: &FieldsReader<'_>, name: Name, required: bool) -> Result<Self, HeaderError> {
        if fields.contains(name) {
            T::read(fields, name, true).map(Some)
        } else {
            absent(name, required)
        }
    }

    fn write(&self, ext: &mut ExtFields, name: &'static str) {
        if let Some(value) = self {
            value.write(ext, name);
        }
    }
}
