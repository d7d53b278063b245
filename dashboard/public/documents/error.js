// Why a file gives no document; knows the codes, and leaves their words to the page.

/** `code` says what is wrong; `detail` holds what its sentence needs: a kind, pages, a limit. */
export class DocumentError extends Error {
  constructor(code, detail = {}) {
    super(code);
    this.name = "DocumentError";
    this.code = code;
    this.detail = detail;
  }
}
