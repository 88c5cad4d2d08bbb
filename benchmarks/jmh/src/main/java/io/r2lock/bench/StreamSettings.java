package io.r2lock.bench;

import io.r2lock.AdvisoryLocks;
import java.util.LinkedHashMap;
import java.util.Map;

/** The arguments of {@link Streams}: {@code name=value}, each with a default, and {@code smoke}, which makes all of them small. */
final class StreamSettings {

    private final Map<String, Integer> values = new LinkedHashMap<>();
    private final boolean smoke;

    StreamSettings(String... arguments) {
        this.smoke = arguments.length > 0 && arguments[0].equals("smoke");
        values.put("items", smoke ? 10_000 : 1_000_000);
        values.put("keys", smoke ? 100 : 10_000);
        values.put("concurrency", smoke ? 32 : 256);
        values.put("rounds", smoke ? 1 : 7);
        values.put("round", smoke ? 2_000 : 300_000);
        values.put("handOffs", AdvisoryLocks.Builder.DEFAULT_HAND_OFF_LIMIT);
        for (int i = smoke ? 1 : 0; i < arguments.length; i++) {
            String[] parts = arguments[i].split("=", 2);
            if (parts.length != 2 || values.replace(parts[0], Integer.valueOf(parts[1])) == null) {
                throw new IllegalArgumentException("unknown argument " + arguments[i] + "; known: smoke, " + values);
            }
        }
    }

    boolean smoke() {
        return smoke;
    }

    int items() {
        return values.get("items");
    }

    int keys() {
        return values.get("keys");
    }

    int concurrency() {
        return values.get("concurrency");
    }

    int rounds() {
        return values.get("rounds");
    }

    /** Items of one round. */
    int round() {
        return values.get("round");
    }

    int handOffs() {
        return values.get("handOffs");
    }

    @Override
    public String toString() {
        return (smoke ? "smoke " : "") + values;
    }
}
