"""What sellers read, in their languages: one dictionary for mail and the reply page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Phrases: TypeAlias = Mapping[str, str]

FALLBACK = "en"

_ENGLISH = {
    # mail
    "subject": "Order {order}",
    "greeting": "Hello {name},",
    "greeting_nobody": "Hello,",
    "mail_order": "A buyer has sent you an order.",
    "mail_follow_up": "The buyer has added a note to this order.",
    "mail_button": "Answer this order",
    "mail_button_note": "You can accept, decline or write back. You need no account.",
    "mail_plain_link": "If the button does not work, copy this address into your browser:",
    "mail_answer_here": "Accept, decline or write back here (you need no account):",
    "mail_footer": "This message was sent automatically. Please answer by the link and not by e-mail.",
    "mail_keep_secret": "The link is yours alone: whoever has it can answer in your name.",
    # both
    "order": "Order",
    "session": "Session",
    "details": "Details",
    "note": "Note",
    "attachments": "Links",
    "more_details": "… and more",
    "new_order": "New order",
    "new_note": "New note",
    # reply page
    "page_title": "Order {order}",
    "page_order": "A buyer has sent you this order. What do you say?",
    "page_follow_up": "The buyer has added this note. What do you say?",
    "message_label": "Your message to the buyer",
    "message_hint": "Optional when you accept or decline. At most {most} characters.",
    "accept": "Accept",
    "decline": "Decline",
    "write_back": "Write back",
    "final_hint": "Accept and decline are final. Messages that you can write before: {left}.",
    "no_more_messages": "You have written back {most} times; now only accept or decline is left.",
    "your_messages": "What you have written",
    "sent_accepted": "Thank you. You have accepted.",
    "sent_declined": "Thank you. You have declined.",
    "sent_message": "Your message is on its way to the buyer.",
    "sent_text": "The buyer sees your answer at once. You can close this page.",
    "used_accepted": "You have accepted already",
    "used_declined": "You have declined already",
    "used_text": "An answer is final, and this link is used up. To add something, wait for the buyer's next note.",
    "fault_choice": "Please choose one of the buttons.",
    "fault_empty": "Please write something first.",
    "fault_long": "Please write at most {most} characters.",
    "fault_characters": "The message has characters that cannot be sent. Please remove them.",
    "fault_crossed": "Another message was sent here in the meantime. Please send yours once more.",
    "expired": "This link has expired",
    "expired_text": "Please wait for the buyer's next message, or contact the marketplace.",
    "invalid": "This link is not complete",
    "invalid_text": "It was cut off or changed on its way. Please open it again from the message, or copy all of it.",
    "unknown": "This order is not known here",
    "unknown_text": "It may have been removed since the message was sent to you. There is nothing more to do.",
    "finished_completed": "This order is complete",
    "finished_cancelled": "This order was cancelled",
    "finished_live": "This link is for an earlier run of the order",
    "finished_text": "It takes no more answers. There is nothing more to do.",
    "too_large": "The message is too long",
    "too_large_text": "Please go back and send a shorter one.",
    "unavailable": "This does not work just now",
    "unavailable_text": "Your answer was not kept. Please try again in a minute.",
}

_GERMAN = {
    "subject": "Bestellung {order}",
    "greeting": "Guten Tag {name},",
    "greeting_nobody": "Guten Tag,",
    "mail_order": "ein Käufer hat Ihnen eine Bestellung geschickt.",
    "mail_follow_up": "der Käufer hat zu dieser Bestellung etwas geschrieben.",
    "mail_button": "Bestellung beantworten",
    "mail_button_note": "Sie können annehmen, ablehnen oder zurückschreiben. Ein Konto brauchen Sie nicht.",
    "mail_plain_link": "Falls der Knopf nicht geht, kopieren Sie diese Adresse in Ihren Browser:",
    "mail_answer_here": "Hier können Sie annehmen, ablehnen oder zurückschreiben (ein Konto brauchen Sie nicht):",
    "mail_footer": "Diese Nachricht wurde automatisch verschickt. Bitte antworten Sie über den Link, nicht per E-Mail.",
    "mail_keep_secret": "Der Link gehört nur Ihnen: Wer ihn hat, kann in Ihrem Namen antworten.",
    "order": "Bestellung",
    "session": "Sitzung",
    "details": "Einzelheiten",
    "note": "Nachricht",
    "attachments": "Links",
    "more_details": "… und mehr",
    "new_order": "Neue Bestellung",
    "new_note": "Neue Nachricht",
    "page_title": "Bestellung {order}",
    "page_order": "Ein Käufer hat Ihnen diese Bestellung geschickt. Was sagen Sie dazu?",
    "page_follow_up": "Der Käufer hat dies dazu geschrieben. Was sagen Sie dazu?",
    "message_label": "Ihre Nachricht an den Käufer",
    "message_hint": "Freiwillig, wenn Sie annehmen oder ablehnen. Höchstens {most} Zeichen.",
    "accept": "Annehmen",
    "decline": "Ablehnen",
    "write_back": "Zurückschreiben",
    "final_hint": "Annehmen und Ablehnen sind endgültig. Nachrichten, die Sie davor schreiben können: {left}.",
    "no_more_messages": "Sie haben {most}-mal zurückgeschrieben; jetzt bleibt nur noch Annehmen oder Ablehnen.",
    "your_messages": "Was Sie geschrieben haben",
    "sent_accepted": "Danke. Sie haben angenommen.",
    "sent_declined": "Danke. Sie haben abgelehnt.",
    "sent_message": "Ihre Nachricht ist unterwegs zum Käufer.",
    "sent_text": "Der Käufer sieht Ihre Antwort sofort. Sie können diese Seite schließen.",
    "used_accepted": "Sie haben schon angenommen",
    "used_declined": "Sie haben schon abgelehnt",
    "used_text": "Eine Antwort ist endgültig. Um etwas hinzuzufügen, warten Sie auf die nächste Nachricht des Käufers.",
    "fault_choice": "Bitte wählen Sie einen der Knöpfe.",
    "fault_empty": "Bitte schreiben Sie zuerst etwas.",
    "fault_long": "Bitte schreiben Sie höchstens {most} Zeichen.",
    "fault_characters": "Die Nachricht enthält Zeichen, die nicht verschickt werden können. Bitte entfernen Sie sie.",
    "fault_crossed": "Inzwischen wurde hier etwas anderes verschickt. Bitte schicken Sie Ihres noch einmal ab.",
    "expired": "Dieser Link ist abgelaufen",
    "expired_text": "Bitte warten Sie auf die nächste Nachricht des Käufers oder fragen Sie beim Marktplatz nach.",
    "invalid": "Dieser Link ist nicht vollständig",
    "invalid_text": "Er wurde unterwegs verändert. Bitte öffnen Sie ihn aus der Nachricht oder kopieren Sie ihn ganz.",
    "unknown": "Diese Bestellung ist hier nicht bekannt",
    "unknown_text": "Vielleicht wurde sie inzwischen entfernt. Sie brauchen nichts mehr zu tun.",
    "finished_completed": "Diese Bestellung ist abgeschlossen",
    "finished_cancelled": "Diese Bestellung wurde storniert",
    "finished_live": "Dieser Link gehört zu einem früheren Durchgang der Bestellung",
    "finished_text": "Sie nimmt keine Antworten mehr an. Sie brauchen nichts mehr zu tun.",
    "too_large": "Die Nachricht ist zu lang",
    "too_large_text": "Bitte gehen Sie zurück und schicken Sie eine kürzere.",
    "unavailable": "Das geht gerade nicht",
    "unavailable_text": "Ihre Antwort wurde nicht gespeichert. Bitte versuchen Sie es in einer Minute noch einmal.",
}

#: Every language that sellers are spoken to in.
LANGUAGES: Mapping[str, Phrases] = {"en": _ENGLISH, "de": _GERMAN}


def language_of(tag: str) -> str:
    """The language that is spoken to somebody who asks for a tag such as ``de-AT``; English for any other."""
    primary = tag.partition("-")[0].lower()
    return primary if primary in LANGUAGES else FALLBACK
