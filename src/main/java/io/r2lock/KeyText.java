package io.r2lock;

import java.nio.charset.StandardCharsets;

/** The texts that keys are made from: their bytes, and the form in which people may see them. */
final class KeyText {

    private static final int LONGEST_SHOWN = 100;
    private static final int SHOWN_OF_LONGER = 80;

    /** Characters that end or start something in SQL, HTML, a shell or a log pattern. */
    private static final String ESCAPED_MARKS = "'\"`\\<>&*$";

    private KeyText() {}

    /**
     * The UTF-8 bytes of an argument.
     *
     * @throws IllegalArgumentException if it is null, or holds an unpaired surrogate: that has no UTF-8 form, and the
     *     replacement {@code ?} would give different names one key
     */
    static byte[] utf8(String argument, String text) {
        if (text == null) {
            throw new IllegalArgumentException(argument + " must not be null");
        }
        int codePoint;
        for (int i = 0; i < text.length(); i += Character.charCount(codePoint)) {
            codePoint = text.codePointAt(i);
            if (Character.getType(codePoint) == Character.SURROGATE) {
                throw new IllegalArgumentException(
                        argument + " must be well-formed, but has an unpaired surrogate at index " + i + ": '"
                                + escaped(shortened(text)) + "'");
            }
        }
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /**
     * The UTF-8 bytes of an argument that a server must be able to hash, too.
     *
     * @throws IllegalArgumentException as {@link #utf8}, or if it holds NUL
     */
    static byte[] postgresText(String argument, String text) {
        byte[] bytes = utf8(argument, text);
        int nul = text.indexOf('\0');
        if (nul >= 0) {
            throw new IllegalArgumentException(
                    argument + " must not hold NUL, which no PostgreSQL text can, but has it at index " + nul + ": '"
                            + escaped(shortened(text)) + "'");
        }
        return bytes;
    }

    /** The text itself, or, of one longer than 100 characters, its beginning and its length. */
    static String shortened(String text) {
        if (text.length() <= LONGEST_SHOWN) {
            return text;
        }
        boolean splitsPair = Character.isHighSurrogate(text.charAt(SHOWN_OF_LONGER - 1));
        int end = splitsPair ? SHOWN_OF_LONGER - 1 : SHOWN_OF_LONGER;
        return text.substring(0, end) + "… (" + text.length() + " chars)";
    }

    /** The text with everything that could act on a log, a terminal, a page or a statement shown as its UTF-16 code. */
    static String escaped(String text) {
        StringBuilder shown = new StringBuilder(text.length());
        int previous = 0;
        int codePoint;
        for (int i = 0; i < text.length(); i += Character.charCount(codePoint)) {
            codePoint = text.codePointAt(i);
            boolean sqlComment = codePoint == '-' && previous == '-';
            if (isHarmless(codePoint) && !sqlComment) {
                shown.appendCodePoint(codePoint);
            } else {
                for (char unit : Character.toChars(codePoint)) {
                    shown.append(String.format("\\u%04x", (int) unit));
                }
            }
            previous = codePoint;
        }
        return shown.toString();
    }

    private static boolean isHarmless(int codePoint) {
        return switch (Character.getType(codePoint)) {
            case Character.CONTROL,
                    Character.FORMAT,
                    Character.SURROGATE,
                    Character.PRIVATE_USE,
                    Character.UNASSIGNED,
                    Character.LINE_SEPARATOR,
                    Character.PARAGRAPH_SEPARATOR -> false;
            case Character.SPACE_SEPARATOR -> codePoint == ' ';
            default -> ESCAPED_MARKS.indexOf(codePoint) < 0;
        };
    }
}
