//! Topic ids, which the safe client library does not tell: one question to librdkafka's own admin interface.
//!
//! All unsafe code of this question is in this file. Invariants: every object of librdkafka's is owned by one [`Owned`]
//! and destroyed once; nothing that belongs to an answer outlives the answer; the client outlives the question, because
//! the caller lends it.

#![expect(unsafe_code, reason = "librdkafka tells topic ids only through its C interface")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What a broker calls one life of a topic: a topic that is deleted and created again under its name has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(u128);

impl TopicId {
    /// The 16 bytes of the UUID, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// An object of librdkafka's and how it is destroyed.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `object` is null, or belongs to the caller and may be given to `destroy` once.
    unsafe fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, KafkaError> {
        let object = NonNull::new(object).ok_or_else(|| failed(RDKafkaErrorCode::Fail))?;
        Ok(Self { object, destroy })
    }

    fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` promises that the object is ours and alive, and it is dropped once.
        unsafe { (self.destroy)(self.object.as_ptr()) }
    }
}

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::AdminOp(code)
}

/// An answer with the queue on which it came; fields go in this order, so the event goes first.
struct Answer {
    event: Owned<native::rd_kafka_event_t>,
    _queue: Owned<native::rd_kafka_queue_t>,
}

/// Asks for the ids of topics, for `timeout` at most; blocking. Topics that do not exist are not in the answer. Does not
/// create any.
///
/// # Errors
/// No answer, or one that refuses a topic.
pub(crate) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, TopicId>, KafkaError> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(*topic).map_err(|_| failed(RDKafkaErrorCode::InvalidTopic)))
        .collect::<Result<_, _>>()?;
    let answer = ask(client, &names, timeout)?;
    let event = &answer.event;
    // SAFETY: the answer is alive until the end of this function; the calls only read it. The answer's array has `count`
    // elements, which live as long as the event, and may be null only when it is empty.
    unsafe {
        let code = native::rd_kafka_event_error(event.as_ptr());
        if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code.into()));
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event.as_ptr());
        if result.is_null() {
            return Err(failed(RDKafkaErrorCode::Fail));
        }
        let mut count = 0_usize;
        let described = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() {
            return Ok(BTreeMap::new());
        }
        let mut ids = BTreeMap::new();
        for description in std::slice::from_raw_parts(described, count) {
            ids.extend(read(*description)?);
        }
        Ok(ids)
    }
}

/// Sends the question and waits for its event.
fn ask<C: ClientContext>(
    client: &Client<C>,
    names: &[CString],
    timeout: Duration,
) -> Result<Answer, KafkaError> {
    let client = client.native_ptr();
    let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client lives as long as the borrow of the caller. Collection and options are ours and live to the
    // end of this block, the queue at least as long; librdkafka copies names and options when it is asked, and counts the queue's owners itself, so
    // an answer that comes after we stopped to wait finds its queue disabled, not freed. The text is not longer than its
    // buffer.
    unsafe {
        let topics = Owned::new(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        )?;
        let options = Owned::new(
            native::rd_kafka_AdminOptions_new(
                client,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            native::rd_kafka_AdminOptions_destroy,
        )?;
        let mut text: [c_char; 256] = [0; 256];
        let code = native::rd_kafka_AdminOptions_set_request_timeout(
            options.as_ptr(),
            milliseconds,
            text.as_mut_ptr(),
            text.len(),
        );
        if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code.into()));
        }
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?;
        native::rd_kafka_DescribeTopics(client, topics.as_ptr(), options.as_ptr(), queue.as_ptr());
        let event = native::rd_kafka_queue_poll(queue.as_ptr(), milliseconds);
        if event.is_null() {
            return Err(failed(RDKafkaErrorCode::OperationTimedOut));
        }
        Ok(Answer { event: Owned::new(event, native::rd_kafka_event_destroy)?, _queue: queue })
    }
}

/// Name and id of a described topic; nothing for one that does not exist.
///
/// # Safety
/// `description` belongs to an answer that is alive.
unsafe fn read(
    description: *const native::rd_kafka_TopicDescription_t,
) -> Result<Option<(String, TopicId)>, KafkaError> {
    // SAFETY: as the caller promises; all that is read belongs to the description and is copied before it goes. A missing
    // error object means success, and its code is asked for all the same.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(description);
        let code: RDKafkaErrorCode = native::rd_kafka_error_code(error).into();
        match code {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnknownTopicOrPartition => return Ok(None),
            code => return Err(failed(code)),
        }
        let name = native::rd_kafka_TopicDescription_name(description);
        let id = native::rd_kafka_TopicDescription_topic_id(description);
        if name.is_null() || id.is_null() {
            return Err(failed(RDKafkaErrorCode::Fail));
        }
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        let most = native::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
        let least = native::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
        let high = u128::from(u64::from_be_bytes(most));
        let low = u128::from(u64::from_be_bytes(least));
        Ok(Some((name, TopicId((high << 64) | low))))
    }
}
