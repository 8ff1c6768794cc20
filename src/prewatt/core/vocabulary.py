"""The coded words of supply and messages: small integers in the database, stable for ever.

Every code here is stored as a ``smallint``. A code is never renumbered and never reused; a new
word takes the next free number. Zero is kept for "unknown" alone, so that a forgotten value can
never pass for a decision. ``word`` gives the lower-case name that templates, CSS classes and JSON
use (``BoardState.LOW.word == "low"``); sentences for people are made elsewhere, per language.
"""

from enum import IntEnum


class Coded(IntEnum):
    """An integer code with a lower-case ``word`` for templates, CSS classes and JSON."""

    @property
    def word(self) -> str:
        """Return the code's name in lower case, e.g. ``no_payment_in_flight``."""
        return self.name.lower()


class BoardState(Coded):
    """The eight states of a unit's window on the board; a higher code takes precedence.

    The order of the codes *is* the order of precedence (tamper > cut > offline > emergency > low >
    protected > vacant > on). CUT means that the relay was read back as open, not that an order
    stands; EMERGENCY that the account lives on emergency credit; LOW that at least one low-balance
    level has fired and was not cleared. Which one holds is said once, in SQL (``reports.units``).
    """

    ON = 1
    VACANT = 2
    PROTECTED = 3
    LOW = 4
    EMERGENCY = 5
    OFFLINE = 6
    CUT = 7
    TAMPER = 8


class RelayState(Coded):
    """What the meter's relay was last read back as."""

    UNKNOWN = 0
    CLOSED = 1
    OPEN = 2


class OrderKind(Coded):
    """What a supply order asks of a meter. Connect closes the relay, disconnect opens it.

    LIMIT is a word kept for later: without a read-back no such order is created (`core.orders`).
    """

    CONNECT = 1
    DISCONNECT = 2
    LIMIT = 3


class OrderState(Coded):
    """The life of a supply order, from the decision to the relay state read back.

    Verified, failed, expired, superseded and would_have are final (see ``core.orders``).
    """

    DECIDED = 1
    SENT = 2
    ACKNOWLEDGED = 3
    VERIFIED = 4
    FAILED = 5
    EXPIRED = 6
    SUPERSEDED = 7
    WOULD_HAVE = 8


class InstructionState(Coded):
    """The life of a signed instruction: answered and refused are final, each by bytes that the meter signed.

    Expired and superseded say that Prewatt goes on without an answer; one that comes late still ends them.
    """

    #: Made, and not taken by any broker yet.
    ISSUED = 1
    SENT = 2
    ANSWERED = 3
    REFUSED = 4
    EXPIRED = 5
    SUPERSEDED = 6


class WalletState(Coded):
    """The life of a wallet in a meter: it ends by the meter's signed answer, or by a person's word without one."""

    HELD = 1
    #: The meter is to be told that it holds no credit any more, and is told of none.
    RELEASING = 2
    ENDED = 3


class WalletEnd(Coded):
    """Why a meter is to hold no credit any more."""

    #: Somebody else pays by it.
    MOVED = 1
    #: It is not in its place any more.
    EXCHANGED = 2
    #: Its supply became protected: a meter knows of no protection.
    PROTECTED = 3
    BY_HAND = 4
    #: Nothing that it signs is believed any more.
    NO_KEY = 5


class Gate(Coded):
    """The gates of a disconnection, in the order in which a screen lists them."""

    BALANCE_EXHAUSTED = 1
    READING_FRESH = 2
    WARNING_DELIVERED = 3
    WINDOW_OPEN = 4
    NOT_PROTECTED = 5
    NO_PAYMENT_IN_FLIGHT = 6
    BRAKE_OFF = 7


class GateResult(Coded):
    """An open gate lets the cut pass; a closed gate holds it."""

    OPEN = 1
    CLOSED = 2


class Outcome(Coded):
    """What a supply decision came to.

    KEEP leaves supply as it is and nothing waits; HOLD is a cut that waits for a gate; STAY_CUT
    leaves an open relay open because the balance does not yet allow reconnection.
    """

    KEEP = 1
    HOLD = 2
    CUT = 3
    CONNECT = 4
    STAY_CUT = 5


class Reason(Coded):
    """Why a supply decision came out as it did: one leading reason, the gates tell the rest.

    Codes 11 to 17 are the closed gate that holds a cut (10 + the gate's code).
    """

    BALANCE_LEFT = 1
    ALREADY_CUT = 2
    ALL_GATES_OPEN = 3
    BALANCE_ALLOWS = 4
    BALANCE_BELOW_RECONNECT = 5
    ALREADY_CONNECTED = 6
    ORDER_STANDS = 7
    RELAY_DEPARTED = 8
    HELD_READING_STALE = 12
    HELD_WARNING_NOT_DELIVERED = 13
    HELD_WINDOW_CLOSED = 14
    HELD_PROTECTED = 15
    HELD_PAYMENT_IN_FLIGHT = 16
    HELD_BRAKE_ON = 17
    MANUAL = 20
    MOVE = 21
    EXPIRED_AND_DECIDED_AGAIN = 22
    TAMPERING = 23


class Protection(Coded):
    """Why a supply may not be cut for money. NONE is an ordinary unit."""

    NONE = 0
    MEDICAL = 1
    FIRE = 2
    LIFT = 3
    COLD_STORE = 4
    OTHER = 5


class LevelKind(Coded):
    """How a low-balance level is measured: money left, days left, or emergency credit in use."""

    MONEY = 1
    DAYS = 2
    EMERGENCY = 3
    EXHAUSTED = 4


class MessageKind(Coded):
    """What a message to a contact is about; each has its texts per language in ``notify``."""

    LOW_BALANCE = 1
    EMERGENCY_STARTED = 2
    CUT_WARNING = 3
    CUT_DONE = 4
    RECONNECTED = 5
    RECHARGED = 6
    BRAKE_ON = 7
    METER_OFFLINE = 8
    TAMPER = 9


class Severity(Coded):
    """How urgent a message is. A property's policy says from which severity quiet hours yield."""

    INFO = 1
    NOTICE = 2
    WARNING = 3
    URGENT = 4


class DeliveryState(Coded):
    """Where a message to one contact on one channel stands.

    DELIVERED is what the channel itself can prove (its README says what that is); EXHAUSTED means
    that every try was made and failed; WOULD_HAVE was composed from old readings and never sent.
    """

    PENDING = 1
    DELIVERED = 2
    RETRYING = 3
    EXHAUSTED = 4
    WOULD_HAVE = 5
    CANCELLED = 6


class ChannelKind(Coded):
    """A way to reach a contact; one folder per channel under ``adapters/channels``."""

    OUTBOX = 1
    EMAIL = 2


class TamperKind(Coded):
    """What a case of tampering or bad power is about; one case of a kind is open for a meter at a time."""

    COVER = 1
    TERMINAL_COVER = 2
    MAGNETIC_FIELD = 3
    REVERSE_FLOW = 4
    PHASE_LOSS = 5
    #: The unit draws by its feeder, and its meter does not say so.
    BYPASS = 6
    #: The relay was read back open, and energy flows.
    RELAY_WELDED = 7
    CLOCK_SET_BACK = 8


class CaseState(Coded):
    """The life of a case: open, looked at by somebody, closed with a reason for ever."""

    OPEN = 1
    LOOKED_AT = 2
    CLOSED = 3


class TamperResponse(Coded):
    """What a property does by itself when a case is opened, each besides the alert."""

    #: The alert and no more.
    NOTHING = 1
    #: The customer is told.
    WARN = 2
    #: The customer is told, and installers are asked to go and look.
    TECHNICIAN = 3
    #: The customer is told, and has no emergency credit until the case is closed.
    HOLD_EMERGENCY = 4
    #: The customer is told, and supply is cut through the gates of any cut until the case is closed.
    CUT = 5


class RequestKind(Coded):
    """What a meter is asked besides its relay. None of these changes what anybody pays or whether they have supply.

    READ: its register and relay now. HISTORY: the readings that it kept of a span. CLOCK: move its clock
    by so many seconds. VERSION: say hello, with clock, relay and firmware. RECONNECT: send the
    connection again that stands for it already (`supply`); there is no word for cutting.
    """

    READ = 1
    HISTORY = 2
    CLOCK = 3
    VERSION = 4
    RECONNECT = 5


class RequestState(Coded):
    """Where a request to a meter stands."""

    WAITING = 1
    SENT = 2
    ANSWERED = 3
    REFUSED = 4
    GIVEN_UP = 5
    CANCELLED = 6


class BulkState(Coded):
    """Where a bulk of requests stands. BRAKED stopped by itself, since too many of them failed."""

    RUNNING = 1
    PAUSED = 2
    BRAKED = 3
    STOPPED = 4
    DONE = 5


class GapState(Coded):
    """A gap in a meter's readings: still open, filled, or given up. One that is given up may still fill."""

    OPEN = 1
    FILLED = 2
    GIVEN_UP = 3
