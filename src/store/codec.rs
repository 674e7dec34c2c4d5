//! Encodes and decodes the values of tables: a format byte, then the row as the codec writes it.
//!
//! This is the only file that names the codec. A new codec needs a new format byte and a new arm here. Decoding
//! arbitrary bytes never panics and never allocates more than the bytes could hold.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// The first byte of every value.
const FORMAT: u8 = 1;

/// The size limit of a row. A damaged length cannot make decoding allocate more.
const MAX_ROW: usize = 1 << 20;

fn config() -> Configuration<LittleEndian, Fixint, Limit<MAX_ROW>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_ROW>()
}

/// Encodes a row.
///
/// # Errors
/// If it is larger than 1 MiB.
pub fn encode(row: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(row, &mut bytes, config())
        .map_err(|error| StoreError::unreadable(format_args!("it cannot be encoded: {error}")))?;
    Ok(bytes)
}

/// Decodes a row. Borrows its strings from the bytes where the type allows.
///
/// # Errors
/// If the format is unknown, or the bytes are not exactly such a row.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    let Some((&FORMAT, row)) = bytes.split_first() else {
        return Err(StoreError::unreadable("unknown format"));
    };
    let (value, used) =
        bincode::serde::borrow_decode_from_slice(row, config()).map_err(StoreError::unreadable)?;
    if used != row.len() {
        return Err(StoreError::unreadable("longer than its type"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::language::Language,
        store::rows::{association::AssociationRow, session::SessionRow},
    };

    proptest! {
        #[test]
        fn rows_decode_to_what_was_encoded(user_id in ".{0,300}", ts in any::<u64>()) {
            let row = AssociationRow { user_id, ts, language: Language::De };
            let bytes = encode(&row).expect("small rows encode");
            prop_assert_eq!(decode::<AssociationRow>(&bytes).expect("own bytes decode"), row);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode::<SessionRow>(&bytes);
            let _ = decode::<AssociationRow>(&bytes);
            let _ = decode::<&str>(&bytes);
        }

        #[test]
        fn a_changed_length_is_an_error(user_id in "[a-z]{1,50}", ts in any::<u64>(), extra in 1usize..9) {
            let mut bytes = encode(&AssociationRow { user_id, ts, language: Language::De }).expect("small rows encode");
            bytes.extend(std::iter::repeat_n(0, extra));
            prop_assert!(decode::<AssociationRow>(&bytes).is_err());
            prop_assert!(decode::<AssociationRow>(&bytes[..bytes.len() - extra - 1]).is_err());
        }
    }
}
