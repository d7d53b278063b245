// Sets a switch of this thread until the end of a scope, however the scope is left.
#pragma once

namespace sheily {

// `exchange` sets the switch and returns what it was before.
template <auto exchange> class Switched {
  public:
    template <typename Value> explicit Switched(Value wanted) : before_(exchange(wanted)) {}
    ~Switched() { exchange(before_); }
    Switched(const Switched &) = delete;
    Switched &operator=(const Switched &) = delete;

  private:
    decltype(exchange({})) before_;
};

} // namespace sheily
