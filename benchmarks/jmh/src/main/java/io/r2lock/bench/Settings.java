package io.r2lock.bench;

import java.util.LinkedHashMap;
import java.util.Map;

/** The arguments: {@code name=value}, each with a default, and {@code smoke}, which makes all of them tiny. */
final class Settings {

    private final Map<String, Double> values = new LinkedHashMap<>();
    private final boolean smoke;

    Settings(String... arguments) {
        this.smoke = arguments.length > 0 && arguments[0].equals("smoke");
        values.put("rounds", smoke ? 2.0 : 7);
        values.put("seconds", smoke ? 0.1 : 3);
        values.put("warm", smoke ? 0.15 : 30);
        values.put("callers", 64.0);
        values.put("connections", 10.0);
        values.put("waiters", smoke ? 5_000.0 : 100_000);
        for (int i = smoke ? 1 : 0; i < arguments.length; i++) {
            String[] parts = arguments[i].split("=", 2);
            if (parts.length != 2 || values.replace(parts[0], Double.valueOf(parts[1])) == null) {
                throw new IllegalArgumentException("unknown argument " + arguments[i] + "; known: smoke, " + values);
            }
        }
    }

    /** Whether this run shows only that everything runs. */
    boolean smoke() {
        return smoke;
    }

    int rounds() {
        return values.get("rounds").intValue();
    }

    double seconds() {
        return values.get("seconds");
    }

    double warm() {
        return values.get("warm");
    }

    int callers() {
        return values.get("callers").intValue();
    }

    int connections() {
        return values.get("connections").intValue();
    }

    int waiters() {
        return values.get("waiters").intValue();
    }

    private static String whole(double value) {
        return value == Math.rint(value) ? String.valueOf((long) value) : String.valueOf(value);
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(smoke ? "smoke" : "");
        values.forEach(
                (name, value) -> text.append(' ').append(name).append('=').append(whole(value)));
        return text.toString().trim();
    }
}
