package io.r2lock;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * What is locked: a number, as PostgreSQL knows it, and the human name that it came from.
 *
 * <p>PostgreSQL has two key spaces that never meet: one {@code bigint}, or two {@code int}. Every recipe here except
 * {@link #of(int, int)} makes a {@code bigint}, and all applications that use one database share these numbers:
 *
 * <table>
 * <caption>Recipes</caption>
 * <tr><th>recipe</th><th>use it</th><th>who computes the same number</th></tr>
 * <tr><td>{@link #named}</td><td>by default</td><td>r2lock; the SQL given there</td></tr>
 * <tr><td>{@link #md5}</td><td>with helpers that hash names with MD5</td><td>Python and others; the SQL given there</td></tr>
 * <tr><td>{@link #hashtextExtended}</td><td>with locks taken in SQL</td><td>SQL {@code hashtextextended}</td></tr>
 * <tr><td>{@link #hashtext}</td><td>with SQL that uses it already</td><td>SQL {@code hashtext}, 32 bits only</td></tr>
 * <tr><td>{@link #of(long)}, {@link #of(int, int)}</td><td>with numbers of your own</td><td>everybody</td></tr>
 * </table>
 *
 * <p>Two names whose numbers are equal are one lock: their holders exclude each other without need. Among a million
 * names the chance that any two meet is 1 in 37 million with 64 bits, and all but a certainty with the 32 bits of
 * {@link #hashtext}. That is chance: who may choose names freely can search for two that meet, in every recipe.
 *
 * <p>Two keys are equal if they are the same lock to PostgreSQL: same space, same number. The name does not count. Keys
 * are immutable and safe for use by many threads; of a long name they keep the beginning only.
 */
public final class LockKey implements Comparable<LockKey> {

    private static final Pattern PLAIN_NAMESPACE = Pattern.compile("[A-Za-z0-9_.-]{1,64}");

    private static final byte[] SLOT_DOMAIN = "r2lock permit".getBytes(StandardCharsets.US_ASCII);

    private final boolean pair;
    private final long value;
    private final @Nullable Source source;

    private LockKey(boolean pair, long value, @Nullable Source source) {
        this.pair = pair;
        this.value = value;
        this.source = source;
    }

    /**
     * The {@code bigint} key of {@code pg_advisory_lock(bigint)}.
     *
     * @param key any number
     * @return the key, e.g. {@code bigint 7}
     */
    public static LockKey of(long key) {
        return new LockKey(false, key, null);
    }

    /**
     * The pair of {@code pg_advisory_lock(int, int)}. It never equals, nor excludes, a {@code bigint} key.
     *
     * @param namespace the first number, by custom the kind of thing that is locked
     * @param key the second number, by custom the thing
     * @return the key, e.g. {@code pair (1, 2)}
     */
    public static LockKey of(int namespace, int key) {
        return new LockKey(true, join(namespace, key), null);
    }

    /**
     * The key of a thing in a namespace: the first 8 bytes, big-endian and signed, of SHA-256 over the length of the
     * namespace in UTF-8 bytes (4 bytes, big-endian), the namespace and the name, both in UTF-8. The length keeps
     * {@code ("a", "bc")} and {@code ("ab", "c")} apart.
     *
     * <p>{@code named("order", "42")} is {@code bigint 8250270489777910516}, {@code named("", "")} is
     * {@code bigint -2360060374177730597}. The same in SQL, for a UTF-8 database:
     *
     * <pre>{@code
     * ('x' || left(encode(sha256(int4send(octet_length('order')) || convert_to('order' || '42', 'UTF8')), 'hex'), 16))
     *         ::bit(64)::bigint
     * }</pre>
     *
     * @param namespace the kind of thing, e.g. {@code order}. It may be shown in logs, metrics and statements: take one of
     *     a few constants, never personal data
     * @param name the thing, e.g. an order's number
     * @return the key, e.g. {@code order/42 (bigint 8250270489777910516)}
     * @throws IllegalArgumentException if an argument is null or has an unpaired surrogate
     */
    public static LockKey named(String namespace, String name) {
        byte[] namespaceBytes = KeyText.utf8("namespace", namespace);
        byte[] nameBytes = KeyText.utf8("name", name);
        MessageDigest sha256 = digest("SHA-256");
        sha256.update(ByteBuffer.allocate(Integer.BYTES).putInt(0, namespaceBytes.length));
        sha256.update(namespaceBytes);
        long value = firstLong(sha256.digest(nameBytes));
        return new LockKey(
                false, value, new Source("named", KeyText.shortened(namespace), KeyText.shortened(name), false));
    }

    /**
     * The key that helpers in other languages make of a name: the first 8 bytes, big-endian and signed, of MD5 over the
     * name in UTF-8.
     *
     * <p>{@code md5("nightly")} is {@code bigint 784550578118357280}, {@code md5("")} is
     * {@code bigint -3162216497309240828}. The same in Python, and in SQL for a UTF-8 database:
     *
     * <pre>{@code
     * int.from_bytes(hashlib.md5("nightly".encode()).digest()[:8], "big", signed=True)
     * ('x' || left(md5('nightly'), 16))::bit(64)::bigint
     * }</pre>
     *
     * @param name the name
     * @return the key, e.g. {@code md5 'nightly' (bigint 784550578118357280)}
     * @throws IllegalArgumentException if the name is null or has an unpaired surrogate
     */
    public static LockKey md5(String name) {
        byte[] bytes = KeyText.utf8("name", name);
        long value = firstLong(digest("MD5").digest(bytes));
        return new LockKey(false, value, new Source("md5", null, KeyText.shortened(name), false));
    }

    /**
     * The key of {@code SELECT pg_advisory_lock(hashtext('job'))}: the {@code int} of SQL {@code hashtext(text)}, widened
     * to {@code bigint} with its sign.
     *
     * <p>{@code hashtext("job")} is {@code bigint -168112706}, {@code hashtext("")} is {@code bigint -1477818771}.
     *
     * <p><b>It has 32 bits only</b>: from about 77,000 names on, some two share a number with a chance of one half. For
     * new code take {@link #named} or {@link #hashtextExtended}.
     *
     * <p>The number is computed here, not on the server. It is the server's own in a database with encoding UTF-8, a
     * deterministic collation (a database's default always is) and a little-endian processor (x86, ARM). ASCII text has
     * the same number in every encoding.
     *
     * @param text the text
     * @return the key, e.g. {@code hashtext 'job' (bigint -168112706)}
     * @throws IllegalArgumentException if the text is null, or has an unpaired surrogate or NUL, as no PostgreSQL text can
     */
    public static LockKey hashtext(String text) {
        byte[] bytes = KeyText.postgresText("text", text);
        return new LockKey(false, PostgresHash.hashtext(bytes), Source.hashed("hashtext", text, bytes));
    }

    /**
     * The key of {@code SELECT pg_advisory_lock(hashtextextended('job', 0))}: the {@code bigint} of SQL
     * {@code hashtextextended(text, bigint)}.
     *
     * <p>{@code hashtextExtended("job", 0)} is {@code bigint 2037922322055876030}, {@code hashtextExtended("job", 42)} is
     * {@code bigint 1472403002632457895}.
     *
     * <p>The number is computed here, under the conditions of {@link #hashtext}.
     *
     * @param text the text
     * @param seed any number; other seeds give other numbers, and 0 is the usual one
     * @return the key, e.g. {@code hashtextextended 'job' (bigint 2037922322055876030)}
     * @throws IllegalArgumentException if the text is null, or has an unpaired surrogate or NUL, as no PostgreSQL text can
     */
    public static LockKey hashtextExtended(String text, long seed) {
        byte[] bytes = KeyText.postgresText("text", text);
        String recipe = seed == 0 ? "hashtextextended" : "hashtextextended seed " + seed;
        return new LockKey(false, PostgresHash.hashtextExtended(bytes, seed), Source.hashed(recipe, text, bytes));
    }

    /**
     * The key of a slot of a semaphore over this key: the first 8 bytes, big-endian and signed, of SHA-256 over the text {@code
     * r2lock permit}, a byte that is 1 for a pair and else 0, the number (8 bytes, big-endian) and the slot (4 bytes, big-endian).
     */
    LockKey slot(int slot) {
        MessageDigest sha256 = digest("SHA-256");
        sha256.update(SLOT_DOMAIN);
        ByteBuffer of = ByteBuffer.allocate(1 + Long.BYTES + Integer.BYTES);
        of.put((byte) (pair ? 1 : 0)).putLong(value).putInt(slot);
        return of(firstLong(sha256.digest(of.array())));
    }

    /** The key of a row of {@code pg_locks}, which shows both halves as unsigned. */
    static LockKey located(long classid, long objid, boolean pair) {
        return new LockKey(pair, join((int) classid, (int) objid), null);
    }

    /** Whether the key is of the space of two {@code int}. */
    boolean isPair() {
        return pair;
    }

    /** The {@code bigint}; of a pair, the namespace in the high half and the key in the low half. */
    long value() {
        return value;
    }

    /** The first number of a pair; of a {@code bigint} its high half. {@code pg_locks.classid} shows both, as unsigned. */
    int high() {
        return (int) (value >>> Integer.SIZE);
    }

    /** The second number of a pair; of a {@code bigint} its low half. {@code pg_locks.objid} shows both, as unsigned. */
    int low() {
        return (int) value;
    }

    /** The namespace of {@link #named}, shortened if it is longer than 100 characters, else null. */
    @Nullable
    String namespace() {
        return source == null ? null : source.namespace;
    }

    /** The {@link #namespace} if it is short and of letters, digits and {@code _.-} only, so that it can end or start nothing. */
    @Nullable
    String plainNamespace() {
        String namespace = namespace();
        return namespace != null && PLAIN_NAMESPACE.matcher(namespace).matches() ? namespace : null;
    }

    /** The number without the name, which may be personal data; with the namespace if that is plain. */
    String label() {
        String namespace = plainNamespace();
        return namespace == null ? number() : number() + " (namespace " + namespace + ")";
    }

    /** The name as people may see it, escaped, without the number; null where the key is a number only. */
    @Nullable
    String name() {
        return source == null ? null : source.shown();
    }

    /** Where the number came from, equal for keys that were made in the same way; null where the key is a number only. */
    @Nullable
    Object origin() {
        return source;
    }

    /** Whether a server with another encoding than UTF-8 would compute another number. */
    boolean needsUtf8Server() {
        return source != null && source.needsUtf8Server;
    }

    /**
     * The canonical order, in which several keys are locked: {@code bigint} keys first, then by number, signed. It agrees
     * with {@link #equals}.
     */
    @Override
    public int compareTo(LockKey other) {
        if (pair != other.pair) {
            return Boolean.compare(pair, other.pair);
        }
        if (!pair) {
            return Long.compare(value, other.value);
        }
        int byHigh = Integer.compare(high(), other.high());
        return byHigh != 0 ? byHigh : Integer.compare(low(), other.low());
    }

    /** Whether the other is a key of the same space and number: the same lock to PostgreSQL, whatever its name. */
    @Override
    public boolean equals(@Nullable Object other) {
        return other instanceof LockKey key && pair == key.pair && value == key.value;
    }

    @Override
    public int hashCode() {
        return 31 * Long.hashCode(value) + Boolean.hashCode(pair);
    }

    /**
     * The number and where it came from, e.g. {@code order/42 (bigint 8250270489777910516)}. Of a name longer than 100
     * characters it shows the beginning and the length; quotes, line breaks and whatever else could act on a log, a page
     * or a statement are escaped.
     */
    @Override
    public String toString() {
        return source == null ? number() : source.shown() + " (" + number() + ")";
    }

    private String number() {
        return pair ? "pair (" + high() + ", " + low() + ")" : "bigint " + value;
    }

    private static long join(int high, int low) {
        return ((long) high << Integer.SIZE) | Integer.toUnsignedLong(low);
    }

    private static long firstLong(byte[] digest) {
        return ByteBuffer.wrap(digest).getLong();
    }

    private static MessageDigest digest(String algorithm) {
        try {
            return MessageDigest.getInstance(algorithm);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("This Java runtime is configured without " + algorithm, e);
        }
    }

    /** Where a number came from. The texts are shortened, as a key can live long and its name be large. */
    private record Source(String recipe, @Nullable String namespace, String text, boolean needsUtf8Server) {

        static Source hashed(String recipe, String text, byte[] utf8) {
            boolean ascii = utf8.length == text.length();
            return new Source(recipe, null, KeyText.shortened(text), !ascii);
        }

        String shown() {
            return namespace == null
                    ? recipe + " '" + KeyText.escaped(text) + "'"
                    : KeyText.escaped(namespace) + "/" + KeyText.escaped(text);
        }
    }
}
