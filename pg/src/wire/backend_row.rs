//! A DataRow: values in column order.

use bytes::Bytes;

use super::frame::Frame;

/// The values of a DataRow frame, borrowed from it.
#[derive(Clone)]
pub struct DataRow(Bytes);

impl DataRow {
    #[must_use]
    pub fn new(frame: &Frame) -> DataRow {
        DataRow(frame.body.clone())
    }

    /// Values in order; ends early if the message lies about its lengths.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.0.get(2..).unwrap_or_default();
        let count = self.0.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
        (0..count).map_while(move |_| {
            let (length, tail) = rest.split_first_chunk()?;
            rest = tail;
            match usize::try_from(i32::from_be_bytes(*length)) {
                Err(_) => Some(None),
                Ok(length) => {
                    let (value, tail) = rest.split_at_checked(length)?;
                    rest = tail;
                    Some(Some(value))
                }
            }
        })
    }
}
