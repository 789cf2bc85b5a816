//! How one namespace calls another one.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::{NetlinkError, Netns};

/// The kernel's number of a namespace that has none yet.
const NONE: i32 = -1;

impl Netns {
    /// The number that another namespace has here; the kernel gives it one if
    /// it has none. It goes with the namespaces, and the kernel gives the same
    /// as soon as one has a link that leads to the other.
    pub(super) fn number_of(&self, other: &Self) -> Result<i32, NetlinkError> {
        let attempt = || format!("find the number of {}", other.label);
        if let Some(number) = self.ask_number(other, attempt)? {
            return Ok(number);
        }
        let made = self.change(RouteNetlinkMessage::NewNsId(message(other, Some(NONE))), 0, attempt);
        match made {
            // Somebody else was faster.
            Err(error) if error.is_existing() => {}
            made => made.map(drop)?,
        }
        self.ask_number(other, attempt)?.ok_or_else(|| NetlinkError::Absent { attempt: attempt() })
    }

    fn ask_number(&self, other: &Self, attempt: impl Fn() -> String) -> Result<Option<i32>, NetlinkError> {
        let answers = self.get(RouteNetlinkMessage::GetNsId(message(other, None)), attempt)?;
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNsId(answer) => number(answer).filter(|number| *number != NONE),
            _ => None,
        }))
    }
}

fn message(other: &Netns, number: Option<i32>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(other.file().raw_fd().cast_unsigned()));
    message.attributes.extend(number.map(NsidAttribute::Id));
    message
}

fn number(message: &NsidMessage) -> Option<i32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) => Some(*number),
        _ => None,
    })
}
