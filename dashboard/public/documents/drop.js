export function acceptFiles(){return () => {};}
