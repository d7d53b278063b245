// How often a password may be guessed: counts for each address and for all, and knows no password.

const FORGET_MS = 60 * 60 * 1000;
const MOST_ADDRESSES = 1000;
export const EACH = { burst: 5, mostWait: 15 * 60 * 1000 };
export const ALL = { burst: 30, mostWait: 60 * 1000 };
const FIRST_WAIT_MS = 2000;

/** After a burst of wrong guesses, each further one has to wait twice as long as the one before. */
export class Guesses {
  constructor(now = () => Date.now()) {
    this.now = now;
    this.addresses = new Map();
    this.all = fresh();
  }

  /** Counts a guess and returns 0, or how many milliseconds it has to wait, and then it is none. */
  take(address) {
    const now = this.now();
    if (this.all.last < now - FORGET_MS) this.all = fresh();
    const place = network(address);
    const own = this.remembered(place, now);
    const wait = Math.max(own.next, this.all.next) - now;
    if (wait > 0) return wait;
    count(own, EACH, now);
    count(this.all, ALL, now);
    this.addresses.delete(place); // a Map has its oldest first
    this.addresses.set(place, own);
    if (this.addresses.size > MOST_ADDRESSES) {
      this.addresses.delete(this.addresses.keys().next().value);
    }
    return 0;
  }

  /** The guess that was counted last was right. */
  forgive(address) {
    this.addresses.delete(network(address));
    this.all.count -= 1;
    if (this.all.count < ALL.burst) this.all.next = 0;
  }

  remembered(place, now) {
    const found = this.addresses.get(place);
    return found && found.last >= now - FORGET_MS ? found : fresh();
  }
}

function fresh() {
  return { count: 0, next: 0, last: 0 };
}

function count(record, { burst, mostWait }, now) {
  record.count += 1;
  record.last = now;
  const over = record.count - burst;
  if (over >= 0) record.next = now + Math.min(FIRST_WAIT_MS * 2 ** over, mostWait);
}

/** Who has one IPv6 address has 2^64: they count as one. IPv4 in IPv6 is IPv4. */
function network(address = "") {
  const plain = address.replace(/^::ffff:/i, "");
  if (!plain.includes(":")) return plain;
  const [head, tail] = plain.split("%", 1)[0].split("::");
  const groups = head.split(":").filter(Boolean);
  if (tail !== undefined) {
    const behind = tail.split(":").filter(Boolean);
    while (groups.length + behind.length < 8) groups.push("0");
    groups.push(...behind);
  }
  return groups.slice(0, 4).join(":");
}
