//! A message's headers, on the stack.

use crate::envelope::header;
use crate::envelope::options::Options;

/// More than any message has.
const MOST: usize = 12;

#[derive(Default)]
pub(super) struct Headers<'a> {
    headers: [(&'a str, &'a [u8]); MOST],
    count: usize,
}

impl<'a> Headers<'a> {
    /// What every message has.
    pub(super) fn plain(position: &'a [u8], epoch: &'a str) -> Headers<'a> {
        let mut headers = Headers::default();
        headers.push(header::POSITION, position);
        headers.push(header::EPOCH, epoch.as_bytes());
        headers
    }

    /// What a row event has, in Debezium's order.
    pub(super) fn row(options: &'a Options, position: &'a [u8], epoch: &'a str) -> Headers<'a> {
        let mut headers = Headers::default();
        if options.context_headers {
            headers.push(header::CONTEXT_CONNECTOR_LOGICAL_NAME, options.prefix.as_bytes());
            headers.push(header::CONTEXT_TASK_ID, b"0");
            headers.push(header::CONTEXT_CONNECTOR_NAME, b"postgresql");
            headers.push(header::CONTEXT_RUN_ID, options.run_id.as_bytes());
        }
        headers.push(header::POSITION, position);
        headers.push(header::EPOCH, epoch.as_bytes());
        headers
    }

    /// Which source and which run.
    pub(super) fn run(&mut self, options: &'a Options) {
        self.push(header::SYSTEM, options.system_identifier.as_bytes());
        self.push(header::RUN, options.run_id.as_bytes());
    }

    pub(super) fn push_some(&mut self, name: &'a str, value: Option<&'a [u8]>) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    pub(super) fn push(&mut self, name: &'a str, value: &'a [u8]) {
        debug_assert!(self.count < MOST);
        if let Some(place) = self.headers.get_mut(self.count) {
            *place = (name, value);
            self.count += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[(&'a str, &'a [u8])] {
        &self.headers[..self.count]
    }
}
