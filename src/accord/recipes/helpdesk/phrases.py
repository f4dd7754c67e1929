"""The words of the help desk: values an order can have, and every phrasing of customer and desk.

Plain data. Placeholders: product, colour, want (the colour asked for), amount, city, date,
and in a leak name, street, number. Every value is one word, so that a small model can copy it.
"""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PRODUCTS = _words(
    """kettle lamp chair desk clock radio camera toaster blender mirror carpet sofa table vase guitar
    tent helmet scarf jacket phone watch printer mixer bag"""
)
COLOURS = _words("red blue green black white yellow brown grey")
CITIES = _words(
    """Lyon Porto Oslo Turin Ghent Bonn Graz Malmo Cadiz Delft Bergen Krakow Nantes Leeds Basel
    Tampere Verona Dresden Cork Zadar"""
)
MONTHS = _words("January February March April June July August September October November December")
DAYS = tuple(range(1, 29))
AMOUNTS = tuple(range(30, 100, 5))
NAMES = _words("Berg Novak Rossi Lind Costa Meyer Dubois Silva")
STREETS = _words("Mill Church Garden Bridge Station River")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing customers ask for, in one state of the order, with the desk's ways to answer."""

    status: str
    """The order's state as the record says it; with the policy, it decides the true answer."""
    asks: tuple[str, ...]
    """How customers put it, in the training split."""
    held_out_asks: tuple[str, ...]
    """How they put it in the hold-out split."""
    good: tuple[str, ...]
    """True and complete answers."""
    partial: tuple[str, ...]
    """True, but half of what the customer has to know."""
    false: tuple[str, ...] = ()
    """Answers that are wrong in substance (yes for no); wrong values come from filling ``good``."""


_ADDRESS = (
    "I moved, can you change the address for my {product}?",
    "Please send the {product} to another address.",
    "The address of my order is wrong, can you correct it?",
    "Is it possible to change the address of the {product}?",
    "I need the {product} at a new address.",
    "Can I still give you a new address?",
)
_ADDRESS_HELD_OUT = (
    "We live somewhere else now, does the {product} go to the new address?",
    "Could the address for the {colour} {product} be changed?",
    "How do I get my {product} to a different address?",
)
_CANCEL = (
    "Please cancel my order.",
    "I want to cancel the {product}.",
    "Can you cancel the order of the {colour} {product}?",
    "I do not need the {product} anymore, please cancel it.",
    "Is it possible to cancel my {product}?",
    "I would like to stop my order.",
)
_CANCEL_HELD_OUT = (
    "Could I still cancel this {product}?",
    "I changed my mind about the {product}, so cancel it.",
    "Does the order for the {colour} {product} have to go on, or can I cancel?",
)

NEEDS: dict[str, Need] = {
    "where": Need(
        "arrives {date}",
        (
            "Where is my {product}?",
            "When does the {colour} {product} arrive?",
            "I am still waiting for my {product}, where is it?",
            "Can you tell me when my {product} comes?",
            "My order is not here yet, when will it come?",
            "Has the {product} been sent, and when is it here?",
        ),
        (
            "What day will I have the {product}?",
            "Do you know where the {colour} {product} is now?",
            "How long until my {product} arrives?",
        ),
        (
            "Your {product} arrives in {city} on {date}.",
            "The {colour} {product} will reach {city} on {date}.",
            "It is on its way to {city} and arrives on {date}.",
            "We deliver your {product} to {city} on {date}.",
            "The delivery in {city} is on {date}.",
        ),
        ("Your {product} arrives on {date}.", "It is on its way to {city}.", "The delivery is on {date}."),
    ),
    "return": Need(
        "return until {date}",
        (
            "Can I return the {product}?",
            "I do not like the {product}, how do I send it back?",
            "Until when can I return the {colour} {product}?",
            "I want to give the {product} back.",
            "How can I return my order?",
            "Is it possible to send the {product} back?",
        ),
        (
            "The {product} is not for me, may I return it?",
            "What do I get if I send the {colour} {product} back?",
            "How long do I have to return this {product}?",
        ),
        (
            "You can return the {product} until {date} and get {amount} euro back.",
            "Returns are open until {date}, and we refund {amount} euro.",
            "Send the {product} back by {date} and we pay you {amount} euro.",
            "Until {date} you can send it back for a refund of {amount} euro.",
            "If you return it by {date}, we pay {amount} euro back.",
        ),
        ("You can return the {product} until {date}.", "You can return it and get {amount} euro back."),
    ),
    "refund": Need(
        "returned, refund paid {date}",
        (
            "Where is my refund?",
            "I sent the {product} back, when do I get my money?",
            "When do you pay back the {product}?",
            "I am waiting for the refund of the {colour} {product}.",
            "My money is not here yet, when will it come?",
            "How much do I get back for the {product}, and when?",
        ),
        (
            "You have my {product} again, so what about my money?",
            "Do you know when the refund for the {product} comes?",
            "What day do I get the money for the {colour} {product}?",
        ),
        (
            "Your refund of {amount} euro is paid on {date}.",
            "We pay {amount} euro back to you on {date}.",
            "You get {amount} euro back on {date}.",
            "On {date} we refund {amount} euro for the {product}.",
            "The refund for the {product} is {amount} euro and comes on {date}.",
        ),
        ("Your refund is paid on {date}.", "You get {amount} euro back.", "The refund is {amount} euro."),
    ),
    "damaged": Need(
        "broken, new one sent {date}",
        (
            "My {product} arrived broken.",
            "The {colour} {product} does not work, it is broken.",
            "I opened the box and the {product} was broken.",
            "The {product} is damaged, what do you do now?",
            "Can I get a new {product}, mine is broken?",
            "There is a crack in my {product}.",
        ),
        (
            "The {product} came in two pieces, please help.",
            "What happens now that my {colour} {product} is damaged?",
            "It is broken, do I get another {product}?",
        ),
        (
            "We send you a new {product} free of charge on {date}.",
            "A new {colour} {product} leaves on {date} and costs you nothing.",
            "You get a free replacement, which we send on {date}.",
            "We replace the {product} for free and send it on {date}.",
            "On {date} we send a new {product} at no cost.",
        ),
        ("We send you a new {product} free of charge.", "We replace the {product} for free."),
    ),
    "warranty": Need(
        "warranty until {date}",
        (
            "Is there still a warranty on my {product}?",
            "The {product} stopped working, do you repair it?",
            "How long is the warranty of the {colour} {product}?",
            "Who pays for the repair of my {product}?",
            "Can you repair the {product}, and what does it cost?",
            "My {product} needs a repair.",
        ),
        (
            "Does the warranty still cover this {product}?",
            "What about a repair for my {colour} {product}?",
            "The {product} is dead, is the repair on you?",
        ),
        (
            "The {product} is under warranty until {date}, so the repair is free.",
            "Your warranty runs until {date} and we repair it for free.",
            "We repair the {product} free of charge, as the warranty ends on {date}.",
            "The repair costs nothing, as the warranty lasts until {date}.",
            "Until {date} you have a warranty, and the repair is free of charge.",
        ),
        ("Your warranty runs until {date}.", "We repair the {product} free of charge."),
    ),
    "address_open": Need(
        "not sent, address open until {date}",
        _ADDRESS,
        _ADDRESS_HELD_OUT,
        (
            "Yes, we can change the address until {date}.",
            "You can give us a new address until {date}.",
            "The address can still be changed until {date}.",
            "Of course, just send us the new address by {date}.",
            "Yes, a new address is possible until {date}.",
        ),
        ("Yes, we can change the address.", "Yes, a new address is possible."),
        (
            "We cannot change the address, because the {product} was sent on {date}.",
            "No, the address can no longer be changed.",
        ),
    ),
    "address_sent": Need(
        "sent {date}, address fixed",
        _ADDRESS,
        _ADDRESS_HELD_OUT,
        (
            "We cannot change the address, because the {product} was sent on {date}.",
            "It is too late for a new address, as the {product} left on {date}.",
            "The {product} was sent on {date}, so the address can no longer be changed.",
            "No, a new address is not possible, as it was sent on {date}.",
            "The address can no longer be changed, because it left on {date}.",
        ),
        ("We cannot change the address.", "No, the address can no longer be changed."),
        ("Yes, we can change the address until {date}.", "Of course, just send us the new address."),
    ),
    "cancel_open": Need(
        "not sent, can be cancelled",
        _CANCEL,
        _CANCEL_HELD_OUT,
        (
            "Yes, we can cancel the order and refund {amount} euro.",
            "We cancel the {product} and pay {amount} euro back.",
            "Of course, the order is cancelled and you get {amount} euro back.",
            "Your order can be cancelled, and the refund is {amount} euro.",
            "Yes, we cancel it and you get {amount} euro back.",
        ),
        ("Yes, we can cancel the order.", "Of course, the order is cancelled."),
        ("It is too late to cancel the order.", "No, we cannot cancel the {product}."),
    ),
    "cancel_sent": Need(
        "sent {date}, cannot be cancelled",
        _CANCEL,
        _CANCEL_HELD_OUT,
        (
            "We cannot cancel the order, because the {product} was sent on {date}.",
            "It is too late to cancel, as the {product} left on {date}.",
            "The {product} was sent on {date}, so we can no longer cancel it.",
            "No, we cannot cancel it, as it was sent on {date}.",
            "The order can no longer be cancelled, because it left on {date}.",
        ),
        ("We cannot cancel the order.", "It is too late to cancel."),
        ("Yes, we can cancel the order and refund {amount} euro.", "Of course, the order is cancelled."),
    ),
    "discount": Need(
        "no discount, sale starts {date}",
        (
            "Can I get a discount on the {product}?",
            "The {product} is expensive, can you make it cheaper?",
            "Is there a discount for good customers?",
            "I want a lower price for the {colour} {product}.",
            "Give me a discount and I buy the {product}.",
            "I saw it cheaper, what about a discount?",
        ),
        (
            "What discount do I get on this {product}?",
            "Could the {colour} {product} be a little cheaper?",
            "May I have a better price for the {product}?",
        ),
        (
            "We cannot give a discount, but the sale starts on {date}.",
            "There is no discount now, but the sale starts on {date}.",
            "No, we have no discount until the sale on {date}.",
            "It cannot be cheaper now, but our sale begins on {date}.",
            "A discount is not possible before the sale starts on {date}.",
        ),
        ("We cannot give a discount.", "The sale starts on {date}."),
        ("Yes, you get a discount of {amount} percent.", "Of course, we make it cheaper for you."),
    ),
    "stock": Need(
        "{want} sold out, back {date}",
        (
            "Do you have the {product} in {want}?",
            "I would like the {product} in {want}, can I buy it?",
            "Is the {want} {product} in stock?",
            "When can I buy the {want} {product}?",
            "I am looking for a {want} {product}.",
            "Can I order a {want} {product} as well?",
        ),
        (
            "What about the {product} in {want}, is it there?",
            "Could I buy one {want} {product} too?",
            "Does the {want} {product} come back to the shop?",
        ),
        (
            "The {want} {product} is sold out and comes back on {date}.",
            "We do not have the {want} {product} now, but it is back on {date}.",
            "The {product} in {want} is sold out until {date}.",
            "It is not in stock now, but the {want} {product} is back on {date}.",
            "The {want} one is sold out, but you can buy it again on {date}.",
        ),
        ("The {want} {product} is sold out.", "It is not in stock now."),
        ("Yes, the {want} {product} is in stock.", "Of course, you can buy the {want} {product} now."),
    ),
    "exchange": Need(
        "exchange for {want} until {date}",
        (
            "Can I exchange it for a {want} {product}?",
            "I would like {want} instead of {colour}, can I change it?",
            "The colour is wrong, I want the {product} in {want}.",
            "Please exchange my {product} for a {want} one.",
            "How do I exchange the {colour} {product} for {want}?",
            "Is an exchange for {want} possible?",
        ),
        (
            "May I have a {want} {product} for this {colour} one?",
            "What if I want to exchange the {product} for one in {want}?",
            "Could you take my {product} and give me a {want} one?",
        ),
        (
            "You can exchange it for a {want} {product} until {date}.",
            "Yes, we exchange it for the {want} one until {date}.",
            "Send it by {date} and we exchange it for a {want} {product}.",
            "The exchange for a {want} {product} is open until {date}.",
            "Until {date} you can exchange the {product} for a {want} one.",
        ),
        ("You can exchange it for a {want} {product}.", "You can exchange the {product} until {date}."),
    ),
    "invoice": Need(
        "invoice due {date}",
        (
            "How much do I have to pay for the {product}?",
            "When do I have to pay the invoice?",
            "I lost the invoice for the {colour} {product}.",
            "What is open on my invoice, and until when?",
            "I did not pay yet, how much is it?",
            "Can you tell me what I owe you for the {product}?",
        ),
        (
            "Until what day can I pay the {product}?",
            "Do I owe you money for the {colour} {product}?",
            "What does the invoice of my {product} say?",
        ),
        (
            "Please pay {amount} euro by {date}.",
            "The invoice is {amount} euro and due on {date}.",
            "You can pay the {amount} euro until {date}.",
            "There are {amount} euro to pay by {date}.",
            "For the {product} you owe {amount} euro, due on {date}.",
        ),
        ("The invoice is due on {date}.", "The invoice is {amount} euro."),
    ),
}

# Messages that leave it to the record what is to be answered.
VAGUE = (
    "I have a question about the {product}.",
    "What about my {product}?",
    "Can you help me with the {colour} {product}?",
    "Please tell me what happens with my order.",
    "Any news about my order?",
    "I am writing because of the {colour} {product}.",
)
HELD_OUT_VAGUE = (
    "Could you have a look at my order of the {product}?",
    "It is about the {colour} {product} again.",
    "How is it with my {product} now?",
)

# How a customer's mood shows: what stands before and after the question, in training and hold-out.
MOODS: dict[str, tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]] = {
    "calm": ((("", ""), ("Hello.", ""), ("Hi.", "Thanks.")), (("Good day.", ""), ("Hey.", "Cheers."))),
    "polite": (
        (
            ("Dear shop,", "Thank you for your help."),
            ("Good morning.", "Many thanks."),
            ("", "Kind regards."),
        ),
        (("Good evening.", "I thank you in advance."), ("Dear team,", "All the best.")),
    ),
    "upset": (
        (
            ("I am not happy.", ""),
            ("", "This is the last time I buy here."),
            ("I am very angry.", "I want an answer now."),
        ),
        (("This makes me angry.", ""), ("", "I am tired of this shop.")),
    ),
    "hurried": (
        (("Quick question.", ""), ("", "I have no time."), ("Short and quick:", "")),
        (("In a hurry.", ""), ("", "Be quick, please.")),
    ),
    "chatty": (
        (
            ("My sister likes your shop a lot.", ""),
            ("", "It is a gift for my son."),
            ("What a nice day it is.", ""),
        ),
        (("My friends told me about you.", ""), ("", "It is for my new home.")),
    ),
}

WARM = (
    "Thank you for your message.",
    "Thanks for writing to us.",
    "Hello, I am happy to help.",
    "I am sorry for the trouble.",
    "It is good to hear from you.",
    "Thank you for asking.",
    "Hello and thank you for your question.",
)
CURT = ("", "", "Well.", "Fine.", "So.")
RUDE = (
    "What do you want now?",
    "Stop writing to us.",
    "I do not have time for this.",
    "Read the page next time.",
    "Not you again.",
    "Nobody cares about your order.",
)
INSULTS = (
    "You are an idiot.",
    "Only a fool asks that.",
    "You are too stupid to read.",
    "What a silly person you are.",
    "People like you are a joke.",
)
BLAME = (
    "This is your own fault.",
    "You should have read the rules.",
    "Only you are to blame.",
    "You did this wrong yourself.",
)
LEAKS = (
    "By the way, {name} lives at {number} {street} Street.",
    "Another customer, {name}, lives at {number} {street} Street.",
    "I can tell you that {name} lives at {number} {street} Street.",
    "The address of {name} is {number} {street} Street in {city}.",
)
BESIDE = (
    "Our shop is open from Monday to Friday.",
    "We sell many nice things for the home.",
    "Please have a look at our page.",
    "The weather in {city} is nice.",
    "Many people like the {colour} {product}.",
    "We have many colours in our shop.",
    "I will look into it some time.",
    "Somebody else may know more about this.",
)
PROMISES = (
    "You also get a voucher of {amount} euro.",
    "I promise you a free gift as well.",
    "We also give you {amount} percent off.",
    "It will all be done today, I promise.",
    "You get double the money back.",
    "We pay for your next order too.",
)
OFFERS = (
    "Can I help you with anything else?",
    "Just write to us if you need more help.",
    "Let me know if you have other questions.",
    "We are here if you need us.",
    "Please ask if there is anything else.",
    "Have a nice day.",
)
RAMBLES = (
    "And so on and on and on and on and on and so on and",
    "It is the and of the to and we the",
    "Well, then, so, and then, well, and then, so, and then, well,",
    "Green the of sale you on and back euro it lamp",
)
