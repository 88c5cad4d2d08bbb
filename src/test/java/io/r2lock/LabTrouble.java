package io.r2lock;

/**
 * One thing that was done to a lab.
 *
 * @param kind what
 * @param target to which process, or, for {@link Kind#TERMINATE}, to which backend
 * @param from the last moment at which it had not begun
 * @param to the first moment at which it was over: the backend gone, the server down, the process running again
 */
record LabTrouble(Kind kind, String target, long from, long to) {

    /** The troubles there are, and what they do to a hold. */
    enum Kind {
        TERMINATE(Effect.FREES),
        STOP_SERVER(Effect.FREES),
        CRASH_SERVER(Effect.FREES),
        RESET(Effect.FREES),
        KILL(Effect.ENDS),
        PAUSE(Effect.DELAYS),
        CUT(Effect.SILENCES),
        STALL(Effect.SILENCES);

        private final Effect effect;

        Kind(Effect effect) {
            this.effect = effect;
        }
    }

    private enum Effect {
        /** The server frees the lock at once. */
        FREES,
        /** The holder is gone. */
        ENDS,
        /** The holder acts later. */
        DELAYS,
        /** Neither side sees anything. */
        SILENCES
    }

    /** Whether the server frees locks by it at once, before their holder can know. */
    boolean frees() {
        return kind.effect == Effect.FREES;
    }

    /** Whether the holder has to find out by itself. */
    boolean silences() {
        return kind.effect == Effect.SILENCES;
    }

    /** Whether it concerns the process, backend or server of this hold; when is another question. */
    boolean concerns(LabHold hold) {
        return switch (kind) {
            case TERMINATE -> hold.backends().contains(Integer.valueOf(target));
            case STOP_SERVER, CRASH_SERVER -> true;
            case RESET, KILL, PAUSE, CUT, STALL -> target.equals(hold.process());
        };
    }

    /** Whether it struck while the hold's work was running. */
    boolean struck(LabHold hold) {
        return concerns(hold) && hold.begin() <= from && from < hold.end();
    }

    String line() {
        return kind + " " + target + " " + from + " " + to;
    }

    static LabTrouble parse(String line) {
        String[] words = line.split(" ", -1);
        return new LabTrouble(Kind.valueOf(words[0]), words[1], Long.parseLong(words[2]), Long.parseLong(words[3]));
    }
}
