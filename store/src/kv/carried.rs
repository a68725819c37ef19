//! Rows of families that this version does not know, as they came in a snapshot of a later one: kept among the replica's
//! own rows, written into its snapshots as what they were, and taken out by the version that knows their family.
//!
//! A family is known in a snapshot by its place in [`Family::ALL`].

use super::{Batch, Family, Kv, for_each};
use crate::error::Result;

const PREFIX: &[u8] = b"carried\0";

/// The key under which a row of the family at `place` is kept in [`Family::Meta`].
pub(crate) fn key_of(place: u8, key: &[u8]) -> Vec<u8> {
    [PREFIX, &[place], key].concat()
}

/// The row that is kept under this key of [`Family::Meta`]: its family's place and its key.
pub(crate) fn row_of(key: &[u8]) -> Option<(u8, &[u8])> {
    let (place, key) = key.strip_prefix(PREFIX)?.split_first()?;
    Some((*place, key))
}

/// Moves the rows of families that are known by now to where they belong.
///
/// # Errors
/// The store's.
pub(crate) fn settle(kv: &dyn Kv) -> Result<()> {
    let mut batch = Batch::default();
    for_each(kv, Family::Meta, |key, value| {
        if let Some((place, own)) = row_of(key)
            && let Some(family) = Family::ALL.get(usize::from(place))
        {
            batch.put(*family, own, value);
            batch.delete(Family::Meta, key);
        }
        Ok(())
    })?;
    match batch.is_empty() {
        true => Ok(()),
        false => kv.write(&batch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;

    #[test]
    fn a_row_is_carried_until_its_family_is_known() {
        let kv = MemoryKv::default();
        let (known, unknown) = (Family::Resets, Family::ALL.len() as u8);
        let place = Family::ALL.iter().position(|f| *f == known).expect("known") as u8;
        let mut batch = Batch::default();
        batch.put(Family::Meta, key_of(place, b"k\0l"), *b"v");
        batch.put(Family::Meta, key_of(unknown, b"k"), *b"w");
        batch.put(Family::Meta, *b"applied", *b"x");
        kv.write(&batch).expect("written");
        settle(&kv).expect("settled");
        assert_eq!(
            kv.get(known, b"k\0l").expect("read").as_deref(),
            Some(&b"v"[..])
        );
        let meta = kv.scan(Family::Meta, &[], 9).expect("read");
        let meta: Vec<_> = meta.iter().map(|(key, _)| row_of(key)).collect();
        assert_eq!(meta, [None, Some((unknown, &b"k"[..]))]);
    }
}
